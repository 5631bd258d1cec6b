"""Scenes on disk, in the folders and files of the data sets that recipes know."""

from metaprompts.synthetic.layouts.writer import LAYOUTS, write_scenes

__all__ = ["LAYOUTS", "write_scenes"]
