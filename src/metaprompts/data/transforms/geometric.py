"""Resize, crop, pad and flip an image together with its dense targets.

Images are resized bilinearly, labels and depth by nearest neighbor. Depth keeps its meters: resizing
corresponds to a different focal length.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import IGNORED_LABEL, Sample
from metaprompts.data.transforms.transform import change_all, check_probability
from metaprompts.errors import InputError

_CROP_TRIES = 10
# Maps to 0 in the model's range of -1..1, up to half a gray level, because 127.5 is not an 8-bit value.
_MID_GRAY = 128


@dataclass(frozen=True)
class RandomResize:
    """Resize to a height and width times a random ratio.

    Args:
        height: height in pixels at ratio 1
        width: width in pixels at ratio 1
        ratio: lowest and highest ratio, drawn uniformly; (1, 1) for a fixed size
        keeps_aspect: whether to keep the aspect ratio; height and width are then upper bounds, the larger one for the
            longer side
    """

    height: int
    width: int
    ratio: tuple[float, float] = (1.0, 1.0)
    keeps_aspect: bool = False

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio is {self.ratio}; expected 0 < lowest <= highest")

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Resize by one random ratio."""
        ratio = generator.uniform(*self.ratio)
        if self.keeps_aspect:
            shortest, longest = (int(side * ratio) for side in sorted((self.height, self.width)))
            return resize(sample, *keep_aspect(*sample.image.shape[:2], longest=longest, shortest=shortest))
        return resize(sample, max(round(self.height * ratio), 1), max(round(self.width * ratio), 1))


@dataclass(frozen=True)
class ResizeImage:
    """Resize the image, but not its labels and depth.

    Args:
        height: height in pixels
        width: width in pixels
        keeps_aspect: whether to keep the aspect ratio; height and width are then upper bounds, the larger one for the
            longer side
    """

    height: int
    width: int
    keeps_aspect: bool = False

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Resize the image, averaging pixels if it shrinks."""
        del generator
        own = sample.image.shape[:2]
        height, width = self.height, self.width
        if self.keeps_aspect:
            height, width = keep_aspect(*own, longest=max(height, width), shortest=min(height, width))
        return replace(sample, image=resized(sample.image, (height, width)))


@dataclass(frozen=True)
class Pad:
    """Pad at the right and bottom to at least a height and width: image mid-gray, labels 255, depth 0.

    mmsegmentation pads last, after scaling values to -1..1, and so pads with the middle of the range. Padding
    should also be the last transform here, so it is neither mirrored nor changed in color.

    Args:
        height: minimum height in pixels
        width: minimum width in pixels
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Pad; deterministic."""
        return pad(sample, self.height, self.width)


@dataclass(frozen=True)
class RandomCrop:
    """Cut out a random window; smaller images stay whole, because `Pad` comes later.

    Args:
        height: maximum height of the window
        width: maximum width of the window
        max_class_share: draw again, up to 10 times, while one class has at least this fraction of the window's labeled
            pixels (mmsegmentation's ``cat_max_ratio``); None to accept any window
    """

    height: int
    width: int
    max_class_share: float | None = None

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)
        if self.max_class_share is not None and not 0 < self.max_class_share <= 1:
            raise ValueError(f"max_class_share is {self.max_class_share}; expected above 0 and at most 1, or None")

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Crop at one random position."""
        height, width = sample.image.shape[:2]
        for _ in range(1 + _CROP_TRIES):
            top = int(generator.integers(max(height - self.height, 0), endpoint=True))
            left = int(generator.integers(max(width - self.width, 0), endpoint=True))
            if sample.labels is None or self.max_class_share is None:
                break
            window = sample.labels[top : top + self.height, left : left + self.width]
            if largest_class_share(window) < self.max_class_share:
                break
        return crop(sample, top, left, self.height, self.width)


@dataclass(frozen=True)
class KittiCrop:
    """Cut out the lowest rows and the middle columns, like the released code; a cropped image is unchanged.

    Args:
        height: height of the crop in pixels
        width: width of the crop in pixels
    """

    height: int = 352
    width: int = 1216

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Crop.

        Raises:
            InputError: the image is smaller
        """
        del generator
        height, width = sample.image.shape[:2]
        if height < self.height or width < self.width:
            raise InputError(
                f"{sample.path} is {height}x{width}; KITTI's crop needs at least {self.height}x{self.width}: "
                "set test.kitti_crop false for other images"
            )
        return crop(sample, height - self.height, (width - self.width) // 2, self.height, self.width)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with a probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Mirror with the given probability."""
        return flip(sample) if generator.random() < self.probability else sample


def keep_aspect(height: int, width: int, *, longest: int, shortest: int) -> tuple[int, int]:
    """Compute the largest size with the same aspect ratio within an image scale.

    Args:
        height: height of the image
        width: width of the image
        longest: upper bound on the longer side
        shortest: upper bound on the shorter side

    Returns:
        height and width, each rounded and at least 1
    """
    factor = min(longest / max(height, width), shortest / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def largest_class_share(labels: NDArray[np.uint8]) -> float:
    """Compute the most frequent class's fraction of the labeled pixels.

    Args:
        labels: (H, W) uint8, 255 = ignored

    Returns:
        0 to 1; 1 where nothing is labeled
    """
    # OpenCV counts in the cropped view itself; numpy would copy it, and widen it to 64 bits.
    counts = cv2.calcHist([labels], [0], None, [IGNORED_LABEL], [0, IGNORED_LABEL]).astype(np.float64)
    total = counts.sum()
    return float(counts.max() / total) if total else 1.0


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H, W, 3) resized to (height, width): averaged if it shrinks, else bilinear."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)  # type: ignore[no-any-return]


def resize(sample: Sample, height: int, width: int) -> Sample:
    """Resize the image bilinearly, labels and depth by nearest neighbor."""
    if sample.image.shape[:2] == (height, width):
        return sample
    return change_all(
        sample,
        lambda image: cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR),
        lambda target, _: cv2.resize(target, (width, height), interpolation=cv2.INTER_NEAREST),
    )


def pad(sample: Sample, height: int, width: int) -> Sample:
    """Pad at the right and bottom to at least a height and width: image mid-gray, labels 255, depth 0."""
    below = max(0, height - sample.image.shape[0])
    right = max(0, width - sample.image.shape[1])
    if not below and not right:
        return sample

    def pad_with(array: NDArray[Any], value: float) -> NDArray[Any]:
        fill = (value,) * 4
        padded: NDArray[Any] = cv2.copyMakeBorder(array, 0, below, 0, right, cv2.BORDER_CONSTANT, value=fill)
        return padded

    return change_all(sample, lambda image: pad_with(image, _MID_GRAY), pad_with)


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """Cut out the window that begins at row ``top`` and column ``left``."""
    window = np.s_[top : top + height, left : left + width]
    return change_all(sample, lambda image: image[window], lambda target, _: target[window])


def flip(sample: Sample) -> Sample:
    """Mirror left and right."""
    flipped = change_all(sample, lambda image: cv2.flip(image, 1), lambda target, _: cv2.flip(target, 1))
    dense = {
        name: replace(target, values=target.values * np.array(target.mirrored, target.values.dtype))
        for name, target in flipped.dense.items()
    }
    return replace(flipped, dense=dense)


def _check_size(height: int, width: int) -> None:
    if min(height, width) < 1:
        raise ValueError(f"size is {height}x{width}; expected at least 1x1")
