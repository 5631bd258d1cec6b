"""The paper's contributions: meta prompts, recurrent refinement, rearrangement."""

from metaprompts.modules.meta_prompts.prompts import CaptionPrompts, LabelPrompts, MetaPrompts
from metaprompts.modules.meta_prompts.rearrangement import FusedRearrangement, LevelRearrangement, rearrange
from metaprompts.modules.meta_prompts.refinement import RecurrentRefinement

__all__ = [
    "CaptionPrompts",
    "FusedRearrangement",
    "LabelPrompts",
    "LevelRearrangement",
    "MetaPrompts",
    "RecurrentRefinement",
    "rearrange",
]
