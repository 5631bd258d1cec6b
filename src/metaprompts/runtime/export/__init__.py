"""The whole model as one file for other runtimes."""

from metaprompts.runtime.export.run import STAGES, Exported, export_model

__all__ = ["STAGES", "Exported", "export_model"]
