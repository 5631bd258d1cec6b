"""The stored label of one image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.normal_files import encode_normals
from metaprompts.data.shards.codec import png
from metaprompts.errors import InputError
from metaprompts.tasks.base import Task
from metaprompts.tasks.normals import NormalsPrediction
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, Prediction, SegmentationPrediction
from metaprompts.tasks.pseudo_labels import Confidence, image_confidence

COLUMNS = ("path", "height", "width", "prediction", "people", "confidence", "confidence_map", "model", "error")
"""The columns of results."""

_LARGEST = 65535
_DEPTH_SCALES = (1000.0, 256.0, 100.0, 10.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Label:
    """The label of one image, or the error if it has none.

    Attributes:
        path: the image's name
        height: image height in pixels
        width: image width in pixels
        prediction: PNG: class indices, depth in units (0 = no depth), or 16-bit normals; None for pose
        people: for pose, one entry per person: "keypoints" (x, y, score of each joint, flat), "box_xywh" and "score"
        confidence: see `image_confidence`
        confidence_map: 8-bit PNG of `pixel_confidence`, 255 = 1
        error: one-line error if the image has no label, else None
    """

    path: str
    height: int | None = None
    width: int | None = None
    prediction: bytes | None = None
    people: list[dict[str, Any]] | None = None
    confidence: float | None = None
    confidence_map: bytes | None = None
    error: str | None = None

    def row(self, model: str) -> dict[str, Any]:
        """The label as a row of results; ``model`` is the model's fingerprint."""
        texts = {"path": _utf8(self.path), "error": None if self.error is None else _utf8(self.error)}
        return {**vars(self), **texts, "model": model}


def labeled(path: str, prediction: Prediction, pixels: Confidence | None, scale: float) -> Label:
    """Convert a prediction to a label.

    Args:
        path: the image's name
        prediction: the image's prediction
        pixels: (H, W) confidence of each pixel
        scale: depth units per meter

    Raises:
        InputError: predictions of this kind cannot be stored
    """
    height, width = prediction.image.shape[:2]
    return Label(
        path=path,
        height=height,
        width=width,
        prediction=_stored(prediction, scale),
        people=_people(prediction) if isinstance(prediction, PosePrediction) else None,
        confidence=image_confidence(prediction, pixels),
        confidence_map=None if pixels is None else png(np.rint(pixels * 255).astype(np.uint8)),
    )


def depth_scale(task: Task) -> float:
    """The largest number of units per meter at which a task's maximum depth fits in 16 bits."""
    largest = getattr(task, "max_depth_m", 0)
    return next((scale for scale in _DEPTH_SCALES if largest * scale <= _LARGEST), _LARGEST / max(largest, 1e-6))


def depth_units(depth_m: NDArray[np.float32], valid: NDArray[np.bool_] | None, scale: float) -> NDArray[np.uint16]:
    """Depth (H, W) in integer units; 0 where there is no depth."""
    measured = np.isfinite(depth_m) & (depth_m > 0) & (True if valid is None else valid)
    units = np.rint(np.where(measured, depth_m, 0) * np.float64(scale))
    # 0 means no measurement, so a measured value is never rounded to 0.
    return np.where(measured, units.clip(1, _LARGEST), 0).astype(np.uint16)


def _utf8(text: str) -> str:
    """Replace bytes of a file name that are not UTF-8, because other systems reject them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _stored(prediction: Prediction, scale: float) -> bytes | None:
    if isinstance(prediction, SegmentationPrediction):
        return png(prediction.labels)
    if isinstance(prediction, DepthPrediction):
        return png(depth_units(prediction.depth_m, prediction.valid, scale))
    if isinstance(prediction, NormalsPrediction):
        return encode_normals(prediction.normals)
    if isinstance(prediction, PosePrediction):
        return None
    raise InputError(f"predictions of type {type(prediction).__name__} cannot be stored as labels")


def _people(prediction: PosePrediction) -> list[dict[str, Any]]:
    return [
        {
            "keypoints": np.column_stack([person.keypoints, person.scores]).astype(float).ravel().tolist(),
            "box_xywh": [float(value) for value in person.box_xywh],
            "score": float(person.score),
        }
        for person in prediction.people
    ]
