"""Heads, which turn rearranged maps into raw predictions."""

from metaprompts.modules.heads.deconv import DepthHead, HeatmapHead
from metaprompts.modules.heads.upernet import FCNHead, UPerNet

__all__ = ["DepthHead", "FCNHead", "HeatmapHead", "UPerNet"]
