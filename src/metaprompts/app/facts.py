"""The numbers that describe a prediction, and its visualization."""

from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.data.io.intrinsics import default_intrinsics, exif_intrinsics
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, Prediction, SegmentationPrediction
from metaprompts.visualize.depth import depth_range
from metaprompts.visualize.pose import DRAWN_SCORE
from metaprompts.visualize.segmentation import palette
from metaprompts.visualize.text import ImageArray


def prediction_facts(prediction: Prediction, upload: Path) -> dict[str, Any]:
    """The numbers that describe a prediction, as JSON.

    Args:
        prediction: a prediction of any task
        upload: the image's file, whose EXIF data may name the focal length
    """
    height, width = prediction.image.shape[:2]
    facts: dict[str, Any] = {"height": height, "width": width}
    if isinstance(prediction, DepthPrediction):
        near, far = depth_range(prediction.depth_m, prediction.valid)
        camera = exif_intrinsics(upload, height, width) or default_intrinsics(height, width)
        facts |= {"near_m": near, "far_m": far, "fov_x_deg": camera.fov_x_deg(width), "camera": camera.source}
    elif isinstance(prediction, SegmentationPrediction):
        shares, colors = prediction.shares(), palette(len(prediction.classes))
        present = [
            {"index": index, "name": name, "share": shares[name], "color": f"#{bytes(colors[index]).hex()}"}
            for index, name in enumerate(prediction.classes)
            if name in shares
        ]
        facts["classes"] = sorted(present, key=lambda each: -each["share"])
    elif isinstance(prediction, PosePrediction):
        facts["joints"] = len(prediction.joints)
        facts["people"] = [
            {
                "score": float(person.score),
                "joints_drawn": int((person.scores >= DRAWN_SCORE).sum()),
                "box_xywh": [float(value) for value in person.box_xywh],
            }
            for person in prediction.people
        ]
    return facts


def drawn_prediction(prediction: Prediction) -> ImageArray:
    """The prediction drawn without a legend, at the image's size (H,W,3)."""
    return np.asarray(prediction.show(legend=False))
