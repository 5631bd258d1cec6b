"""What the paper adds: meta prompts, recurrent refinement, rearrangement."""

from metaprompts.prompting.prompts import CaptionPrompts, LabelPrompts, MetaPrompts
from metaprompts.prompting.rearrangement import FusedRearrangement, LevelRearrangement, rearrange
from metaprompts.prompting.refinement import RecurrentRefinement

__all__ = [
    "CaptionPrompts",
    "FusedRearrangement",
    "LabelPrompts",
    "LevelRearrangement",
    "MetaPrompts",
    "RecurrentRefinement",
    "rearrange",
]
