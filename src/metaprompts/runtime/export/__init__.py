"""The whole model as one file for other runtimes."""

from metaprompts.runtime.export.run import export_model

__all__ = ["export_model"]
