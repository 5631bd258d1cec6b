"""Training images for a small encoder: generated scenes, or the images in a folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metaprompts.data.io.images import images_in, read_image
from metaprompts.data.transforms.geometric import resized
from metaprompts.errors import InputError
from metaprompts.pretraining.array_shards import Rows
from metaprompts.pretraining.config import Scenes
from metaprompts.pretraining.scenes_stage import HELD_OUT, TRAINING, draw_scenes
from metaprompts.utils.wording import counted
from metaprompts.visualize.text import ImageArray

# At most one image out of this many is held out.
_HELD_OUT_OF = 5
_LARGEST_SCALE = 2.0
_SCENE_MULTIPLE = 64


class SceneImages:
    """Generated scenes; missing scenes are rendered first.

    Args:
        folder: folder for the scenes
        count: number of training images
        held_out: number of evaluation images
        crop: side of the crops, and so the minimum height of scenes, in pixels
        workers: processes that draw

    Raises:
        InputError: the folder holds scenes of a different size, or cannot be written
    """

    def __init__(self, folder: Path, *, count: int, held_out: int, crop: int, workers: int) -> None:
        height, width = (-(-side // _SCENE_MULTIPLE) * _SCENE_MULTIPLE for side in (crop, crop * 3 // 2))
        draw_scenes(Scenes(count=count, held_out=held_out, height=height, width=width, workers=workers), folder)
        self._rows, self._held_out = Rows(folder / TRAINING, count), Rows(folder / HELD_OUT, held_out)

    def draw(self, generator: np.random.Generator) -> ImageArray:
        """A training image, (H, W, 3) RGB in 0..255."""
        return self._rows[int(generator.integers(len(self._rows)))]

    def held_out(self) -> Sequence[ImageArray]:
        """Evaluation images, (H, W, 3) RGB in 0..255."""
        return [self._held_out[row] for row in range(len(self._held_out))]


class FolderImages:
    """The images of a folder and its subfolders, at a random scale.

    Args:
        folder: the image folder
        held_out: number of evaluation images, at most a fifth of all
        crop: side of the crops in pixels; smaller images are enlarged to it

    Raises:
        InputError: there are fewer than two images
    """

    def __init__(self, folder: Path, *, held_out: int, crop: int) -> None:
        paths = images_in(folder, warn=True) if folder.is_dir() else []
        if len(paths) < 2:
            raise InputError(f"{folder} holds {counted(len(paths), 'image')}; expected a folder with at least 2")
        # Shuffled, because file names often group similar images.
        order = np.random.default_rng(0).permutation(len(paths))
        apart = min(held_out, max(len(paths) // _HELD_OUT_OF, 1))
        self._held_out = [paths[place] for place in order[:apart]]
        self._paths = [paths[place] for place in order[apart:]]
        self._crop = crop

    def draw(self, generator: np.random.Generator) -> ImageArray:
        """A training image, (H, W, 3) RGB in 0..255, with a shorter side of one to two crops."""
        image = read_image(self._paths[int(generator.integers(len(self._paths)))])
        return scaled(image, round(self._crop * generator.uniform(1.0, _LARGEST_SCALE)), least=self._crop)

    def held_out(self) -> Sequence[ImageArray]:
        """Evaluation images, (H, W, 3) RGB in 0..255, with a shorter side of up to two crops."""
        largest = round(self._crop * _LARGEST_SCALE)
        return [scaled(read_image(path), largest, least=self._crop) for path in self._held_out]


Images = SceneImages | FolderImages
"""Images at least as large as the crop."""


def scaled(image: ImageArray, shorter: int, *, least: int) -> ImageArray:
    """Shrink an image until its shorter side has ``shorter`` pixels; enlarge it only if that side is below ``least``.

    Args:
        image: (H, W, 3)
        shorter: length of the shorter side in pixels
        least: minimum length of the shorter side in pixels
    """
    height, width = image.shape[:2]
    target = max(min(shorter, height, width), least)
    factor = target / min(height, width)
    if factor == 1:
        return image
    return resized(image, (max(round(height * factor), target), max(round(width * factor), target)))


def random_crop(image: ImageArray, size: int, generator: np.random.Generator) -> ImageArray:
    """A random square crop, mirrored with probability 0.5; (size, size, 3)."""
    top = int(generator.integers(image.shape[0] - size + 1))
    left = int(generator.integers(image.shape[1] - size + 1))
    crop = image[top : top + size, left : left + size]
    return crop[:, ::-1] if generator.random() < 0.5 else crop


def middle_crop(image: ImageArray, size: int) -> ImageArray:
    """The square center crop of an image, (size, size, 3)."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]
