"""Scenes on disk, in the layouts of the data sets that recipes read."""

from metaprompts.synthetic.layouts.writer import LAYOUTS, write_scenes

__all__ = ["LAYOUTS", "write_scenes"]
