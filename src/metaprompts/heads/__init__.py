"""From rearranged maps to raw predictions."""

from metaprompts.heads.deconv import DepthHead, HeatmapHead
from metaprompts.heads.upernet import FCNHead, UPerNet

__all__ = ["DepthHead", "FCNHead", "HeatmapHead", "UPerNet"]
