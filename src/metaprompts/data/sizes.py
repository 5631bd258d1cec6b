"""What sizes pictures may have: large enough for the encoder, and those of their targets."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from metaprompts.errors import InputError

SMALLEST_SIDE = 8
"""In pixels: the encoder halves three times."""


def refuse_other_size(image: NDArray[Any], target: NDArray[Any], image_path: Path, target_path: Path) -> None:
    """Check that a picture and its target have the same height and width.

    Raises:
        InputError: they differ; both files and sizes are named
    """
    if image.shape[:2] != target.shape[:2]:
        (height, width), (target_height, target_width) = image.shape[:2], target.shape[:2]
        raise InputError(
            f"{image_path} is {height}x{width} but {target_path} is {target_height}x{target_width} (height x width); "
            "expected the same size"
        )
