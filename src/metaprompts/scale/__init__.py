"""Label any number of images, on one machine or many; nothing is labeled twice and nothing is lost."""

from metaprompts.scale.labeler import Labeler

__all__ = ["Labeler"]
