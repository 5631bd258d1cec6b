"""Pre- and postprocessing of images: see model.json."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image  # noqa: F401 (for save_result, which follows)

Array = NDArray[np.float32]


def network_inputs(image: NDArray[np.uint8], boxes: list[list[float]], facts: dict[str, Any]) -> list[Array]:
    """The image (H, W, 3) resized to the network's input, (1, 3, h, w) in [0, 1]."""
    if boxes:
        raise SystemExit(f"boxes are for people, but this model is for {facts['task']}")
    size = facts["input"]["shape"][2:]
    weights = averaging if np.prod(size) < np.prod(image.shape[:2]) else between
    pixels = resized(image.astype(np.float32).transpose(2, 0, 1), size, weights)
    # 8-bit values, as in training.
    return [(np.rint(pixels)[None] / 255).astype(np.float32)]


def resized(channels: Array, size: tuple[int, ...], weights: Any) -> Array:
    """Resize (C, h, w) to a given height and width."""
    rows, columns = (weights(length, count) for length, count in zip(channels.shape[1:], size, strict=True))
    found: Array = rows @ channels @ columns.T
    return found


def averaging(length: int, count: int) -> Array:
    """Weights (count, length) that average pixels over equal intervals, whose ends may lie inside pixels."""
    edges = np.linspace(0, length, count + 1)[:, None]
    return (np.diff(np.clip(edges - np.arange(length), 0, 1), axis=0) * count / length).astype(np.float32)


def between(length: int, count: int) -> Array:
    """Weights (count, length) that interpolate linearly between pixels' centers."""
    places = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
    return np.maximum(1 - abs(places[:, None] - np.arange(length)), 0).astype(np.float32)
