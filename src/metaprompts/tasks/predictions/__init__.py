"""Predictions for one image: small frozen dataclasses that can be shown and saved."""

from metaprompts.tasks.predictions.base import Prediction
from metaprompts.tasks.predictions.depth import DepthPrediction
from metaprompts.tasks.predictions.pose import PersonPose, PosePrediction, coco_keypoints
from metaprompts.tasks.predictions.segmentation import SegmentationPrediction

__all__ = ["DepthPrediction", "PersonPose", "PosePrediction", "Prediction", "SegmentationPrediction", "coco_keypoints"]
