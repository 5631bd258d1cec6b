"""Results of predictions on disk: the files to download, and the data that the views of the page need."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.utils.files import read_json, write_array, write_image, write_json
from metaprompts.visualize.text import ImageArray

STEM = "image"
"""Prefix of the names of all downloads. Names that come from users are never used as paths."""

# Images on the page are enlarged or reduced so that their longer side is in this range.
_VIEW_PX = (768, 1600)


@dataclass(frozen=True)
class Result:
    """The folder of one prediction.

    Attributes:
        folder: holds ``files`` for downloads, ``image.png`` as read, ``photo.jpg`` and ``shown.png`` for the page,
            ``facts.json``, and for depth ``depth.npy``
    """

    folder: Path

    @property
    def files(self) -> Path:
        """The folder of the downloads."""
        return self.folder / "files"

    @property
    def photo(self) -> Path:
        """The image as shown on the page."""
        return self.folder / "photo.jpg"

    @property
    def shown(self) -> Path:
        """The visualized prediction, of the same size as ``photo``, without a legend."""
        return self.folder / "shown.png"

    def downloads(self) -> list[str]:
        """The files to download, sorted."""
        return sorted(str(path) for path in self.files.iterdir())

    def facts(self) -> dict[str, Any]:
        """The numbers of the prediction."""
        facts: dict[str, Any] = read_json(self.folder / "facts.json")
        return facts

    def image(self) -> ImageArray:
        """The image as it was predicted, (H,W,3)."""
        with Image.open(self.folder / "image.png") as image:
            return np.asarray(image)

    def depth_m(self) -> NDArray[np.float32]:
        """The predicted depth (H,W) in meters, read from disk where it is used."""
        depth: NDArray[np.float32] = np.load(self.folder / "depth.npy", mmap_mode="r")
        return depth

    def write(
        self, image: ImageArray, shown: ImageArray, facts: dict[str, Any], depth_m: NDArray[np.float32] | None
    ) -> None:
        """Write everything but the downloads."""
        write_image(self.folder / "image.png", Image.fromarray(image), compress_level=1)
        write_image(self.photo, for_page(image))
        write_image(self.shown, for_page(shown))
        if depth_m is not None:
            write_array(self.folder / "depth.npy", depth_m)
        write_json(self.folder / "facts.json", facts)


class Results:
    """The folders of the last predictions; the oldest files are removed.

    Args:
        root: folder that only the app uses
        most_bytes: total size of the files below ``root``, including uploads, above which the oldest are removed
    """

    def __init__(self, root: Path, most_bytes: int = 4 * 10**9) -> None:
        self._root, self._most_bytes = root, most_bytes

    def new(self) -> Result:
        """A result with a new folder, in which nothing has been written yet."""
        self._remove_oldest()
        result = Result(self._root / secrets.token_hex(16))
        result.files.mkdir(parents=True)
        return result

    def get(self, name: str | None) -> Result:
        """A result by the name of its folder.

        Raises:
            InputError: the result does not exist, or was removed
        """
        if name is None:
            raise InputError("there is no prediction yet: choose an image first")
        result = Result(self._root / name)
        if not (result.folder / "facts.json").is_file():
            raise InputError("this prediction has expired: predict the image again")
        return result

    def _remove_oldest(self) -> None:
        files = []
        for path in self._root.rglob("*"):
            # Another request may have removed the file.
            with suppress(OSError):
                if path.is_file():
                    files.append((path.stat().st_mtime, path.stat().st_size, path))
        files.sort()
        excess = sum(size for _, size, _ in files) - self._most_bytes
        for _, size, path in files:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size


def for_page(image: ImageArray) -> Image.Image:
    """An image resized for the page."""
    height, width = image.shape[:2]
    scale = view_scale((height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image) if scale == 1 else Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def view_scale(size: Sequence[int]) -> float:
    """The scale factor from pixels of an image of size (H, W) to pixels on the page."""
    longer = max(size)
    return float(np.clip(longer, *_VIEW_PX) / longer)
