"""Label any number of images, on one machine or many; nothing is labeled twice and nothing is lost."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaprompts.scale.labeler import Labeler

__all__ = ["Labeler"]


def __getattr__(name: str) -> Any:
    """Import `Labeler` when it is first used, because PyTorch takes seconds."""
    if name != "Labeler":
        raise AttributeError(f"module 'metaprompts.scale' has no attribute {name!r}")
    from metaprompts.scale.labeler import Labeler

    return Labeler
