"""The models inside this package: a miniature Stable Diffusion, and three task models fine-tuned from it."""

from importlib import resources
from pathlib import Path

BACKBONE = "micro"
"""The miniature Stable Diffusion's name as a backbone."""


def embedded_models() -> tuple[str, ...]:
    """Names of the embedded task models, for `metaprompts.load`."""
    return tuple(sorted(folder.name for folder in _home().glob("micro-*") if folder.is_dir()))


def embedded_folder(name: str) -> Path:
    """The folder of an embedded model.

    Args:
        name: `BACKBONE` or one of `embedded_models`
    """
    return _home() / name


def _home() -> Path:
    return Path(str(resources.files(__name__)))
