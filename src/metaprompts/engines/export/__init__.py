"""The whole model as one file for other runtimes."""

from metaprompts.engines.export.export import STAGES, Exported, check_precision, export_model

__all__ = ["STAGES", "Exported", "check_precision", "export_model"]
