"""What the paper adds: meta prompts, recurrent refinement, rearrangement."""

from metaprompts.prompting.prompts import MetaPrompts
from metaprompts.prompting.rearrangement import FusedRearrangement, LevelRearrangement, rearrange
from metaprompts.prompting.refinement import RecurrentRefinement

__all__ = ["FusedRearrangement", "LevelRearrangement", "MetaPrompts", "RecurrentRefinement", "rearrange"]
