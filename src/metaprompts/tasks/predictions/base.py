"""The interface of predictions, and code that all kinds share."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.large_png import write_png
from metaprompts.errors import InputError
from metaprompts.utils.files import write_array
from metaprompts.visualize.legends import framed
from metaprompts.visualize.text import stack_down


class Prediction(Protocol):
    """The prediction of one image, of any task."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H,W,3) uint8 RGB, the input image."""

    def show(self, *, legend: bool = True) -> Image.Image:
        """An image of the prediction, with a legend below unless ``legend`` is off."""

    def save(self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True) -> list[Path]:
        """Write the prediction and an image of it to files named ``STEM_...``; ``raw`` adds unrounded numbers."""


class NotebookDisplay:
    """Displays a prediction, drawn by ``show``, as the output of a notebook cell."""

    def show(self) -> Image.Image:
        """An image of the prediction."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.show().save(file, format="PNG")
        return file.getvalue()


def stacked(drawn: NDArray[np.uint8], strip: NDArray[np.uint8] | None) -> Image.Image:
    """A drawing, with a legend strip below if there is one."""
    return Image.fromarray(drawn if strip is None else stack_down(drawn, strip))


def write_framed(
    path: Path, size: tuple[int, ...], bands: Iterable[NDArray[np.uint8]], strip: NDArray[np.uint8] | None
) -> Path:
    """Write a PNG of (height, width), given in bands of rows, with a legend strip below if there is one."""
    height, width = size
    below = (0, width) if strip is None else strip.shape[:2]
    return write_png(path, (height + below[0], below[1]), framed(bands, width, strip))


def write_raw(folder: Path, stem: str, **arrays: NDArray[Any] | None) -> list[Path]:
    """Write each array that is not None to ``STEM_NAME.npy``."""
    return [write_array(folder / f"{stem}_{name}.npy", each) for name, each in arrays.items() if each is not None]


def check_size(name: str, values: NDArray[Any], image: NDArray[np.uint8]) -> None:
    """Check that an image is uint8 RGB, and that values have its height and width.

    Raises:
        InputError: the image or the values have another shape
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"the image is {image.dtype} {image.shape}; expected uint8 (height, width, 3)")
    if values.shape != image.shape[:2]:
        raise InputError(f"{name} is {values.shape}; expected the image's size {image.shape[:2]}")
