"""Stable Diffusion as a perception model: segmentation, depth and pose with learnable meta prompts."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InputError", "MetaPromptModel", "__version__", "import_released", "load"]

if TYPE_CHECKING:
    from metaprompts.errors import InputError
    from metaprompts.models.loading import load
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.models.released import import_released

_HOMES = {
    "InputError": "metaprompts.errors",
    "MetaPromptModel": "metaprompts.models.model",
    "load": "metaprompts.models.loading",
    "import_released": "metaprompts.models.released",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: PyTorch and diffusers take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'metaprompts' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
