"""Scenes on disk, in the folders and files of the data sets that recipes know."""

from metaprompts.data.scenes.layouts.writing import LAYOUTS, write_scenes

__all__ = ["LAYOUTS", "write_scenes"]
