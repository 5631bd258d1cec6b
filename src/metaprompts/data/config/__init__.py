"""The data and augment sections of recipes, one file per task."""

from metaprompts.data.config.base import Openers
from metaprompts.data.config.depth import DepthAugment, DepthData
from metaprompts.data.config.pose import PoseAugment, PoseData
from metaprompts.data.config.segmentation import SegmentationAugment, SegmentationData
from metaprompts.data.sample import Split

__all__ = [
    "DepthAugment",
    "DepthData",
    "Openers",
    "PoseAugment",
    "PoseData",
    "SegmentationAugment",
    "SegmentationData",
    "Split",
]
