"""Stable Diffusion as a perception model: segmentation, depth, pose and surface normals with learnable meta prompts."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from metaprompts.engines.calibrate import calibrate
    from metaprompts.engines.evaluate import evaluate
    from metaprompts.engines.loading import load
    from metaprompts.errors import InputError
    from metaprompts.models.detectors import load_detector
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.models.push import push
    from metaprompts.models.released import import_released
    from metaprompts.recipes.loader import read_recipe
    from metaprompts.recipes.recipe import Recipe
    from metaprompts.training.loop import train
    from metaprompts.utils.callbacks import Callback
    from metaprompts.utils.progress import ConsoleProgress

_HOMES = {
    "Callback": "metaprompts.utils.callbacks",
    "ConsoleProgress": "metaprompts.utils.progress",
    "InputError": "metaprompts.errors",
    "MetaPromptModel": "metaprompts.models.model",
    "Recipe": "metaprompts.recipes.recipe",
    "calibrate": "metaprompts.engines.calibrate",
    "evaluate": "metaprompts.engines.evaluate",
    "import_released": "metaprompts.models.released",
    "load": "metaprompts.engines.loading",
    "load_detector": "metaprompts.models.detectors",
    "push": "metaprompts.models.push",
    "read_recipe": "metaprompts.recipes.loader",
    "train": "metaprompts.training.loop",
}
__all__ = [
    "Callback",
    "ConsoleProgress",
    "InputError",
    "MetaPromptModel",
    "Recipe",
    "__version__",
    "calibrate",
    "evaluate",
    "import_released",
    "load",
    "load_detector",
    "push",
    "read_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import attributes when they are first used, because PyTorch and diffusers take seconds to import."""
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'metaprompts' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def _version() -> str:
    """The version of the installed package, which was built from a Git tag."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("metaprompts")
    except PackageNotFoundError:
        return "0.0.0"


def __dir__() -> list[str]:
    return __all__
