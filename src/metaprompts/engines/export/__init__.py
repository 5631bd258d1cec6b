"""The whole model as one file for other runtimes."""

from metaprompts.engines.export.export import STAGES, Exported, export_model

__all__ = ["STAGES", "Exported", "export_model"]
