"""Pre- and postprocessing of people: see model.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def network_inputs(image: NDArray[np.uint8], boxes: list[list[float]], facts: dict[str, Any]) -> list[Array]:
    """A crop for each box, or of the whole image (H, W, 3): (1, 3, h, w) in [0, 1]."""
    height, width = facts["input"]["shape"][2:]
    channels, crops = image.astype(np.float32).transpose(2, 0, 1), []
    for corner, step in places(image, boxes, facts):
        rows = between(corner[1] + np.arange(height) * step[1], image.shape[0])
        columns = between(corner[0] + np.arange(width) * step[0], image.shape[1])
        # 8-bit values, as in training.
        crops.append((np.rint(rows @ channels @ columns.T)[None] / 255).astype(np.float32))
    return crops


def save_result(outputs: list[Array], image: NDArray[np.uint8], boxes: list[list[float]], facts: dict[str, Any]) -> str:
    """Write people.json: for each person the joints' x and y in the image, and their scores."""
    size, people = facts["input"]["shape"][2:], []
    for output, (corner, step) in zip(outputs, places(image, boxes, facts), strict=True):
        # Coordinates of crop and heatmap begin and end at the centers of their outermost pixels.
        scale = np.array([(size[1] - 1) / (output.shape[2] - 1), (size[0] - 1) / (output.shape[1] - 1)])
        joints = [
            [*(peak(each, facts["output"]["sigma"]) * scale * step + corner), float(each.max())] for each in output
        ]
        people.append(dict(zip(facts["output"]["joints"], joints, strict=True)))
    Path("people.json").write_text(json.dumps(people, indent=1), encoding="utf-8")
    return "people.json"


def places(image: NDArray[np.uint8], boxes: list[list[float]], facts: dict[str, Any]) -> list[Any]:
    """Position x, y of each crop's first pixel in the image, and the spacing of the crop's pixels."""
    height, width = facts["input"]["shape"][2:]
    padding = facts["output"]["padding"] if boxes else 1.0
    found = []
    for left, top, wide, high in boxes or [[0, 0, image.shape[1], image.shape[0]]]:
        size = padding * np.array([max(wide, high * width / height), max(high, wide * height / width)])
        found.append((np.array([left + wide / 2, top + high / 2]) - size / 2, size / [width - 1, height - 1]))
    return found


def between(places: NDArray[np.float64], length: int) -> Array:
    """Weights (places, length) that interpolate linearly between pixels; pixels outside are black."""
    return np.maximum(1 - abs(places[:, None] - np.arange(length)), 0).astype(np.float32)


def peak(heatmap: Array, sigma: float) -> NDArray[np.float64]:
    """Find the center x, y of a Gaussian of known width fitted around the largest pixel."""
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    radius = int(np.ceil(1.5 * sigma))
    top, left = max(row - radius, 0), max(column - radius, 0)
    heights = heatmap[top : row + radius + 1, left : column + radius + 1].clip(1e-3).astype(np.float64)
    y, x = np.indices(heights.shape) + np.array([top - row, left - column])[:, None, None]
    plane = np.log(heights) + (x**2 + y**2) / (2 * sigma**2)
    weighted = [(heights * each).ravel() for each in (x, y, np.ones_like(plane))]
    offset = np.linalg.lstsq(np.stack(weighted, 1), (heights * plane).ravel(), rcond=None)[0][:2] * sigma**2
    is_usable = heatmap.max() > 0 and (abs(offset) <= radius).all()
    return np.array([column, row], np.float64) + (offset if is_usable else 0)
