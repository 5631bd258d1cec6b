"""The data and augment sections of recipes, together."""

from metaprompts.data.samples import Split
from metaprompts.data.sections.base import Openers
from metaprompts.data.sections.depth import DepthAugment, DepthData
from metaprompts.data.sections.pose import PoseAugment, PoseData
from metaprompts.data.sections.segmentation import SegmentationAugment, SegmentationData

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
