"""Engine options of commands."""

from typing import TYPE_CHECKING, Any

from metaprompts.cli.console import complain
from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.engines.engine_model import EngineModel
    from metaprompts.engines.factory import Approximation
    from metaprompts.models.model import MetaPromptModel

PLAIN = "plain"
"""The model as in training."""


def opened(
    model: "MetaPromptModel",
    engine: str,
    precision: str,
    *,
    images: int,
    approximation: "Approximation | None" = None,
    bounded: bool = False,
    device: str | None = None,
) -> "MetaPromptModel | EngineModel":
    """Open the model with an engine; prints the engine and the reason on stderr.

    Args:
        model: on its device
        engine: "plain", "auto", or one of `metaprompts.engines.factory`
        precision: "fp32", "bf16" or "int8"
        images: approximate number of images to predict
        approximation: approximations to use; None for none
        bounded: see `open_engine`
        device: see `open_engine`

    Raises:
        InputError: the engine does not exist, or does not support the options
    """
    from metaprompts.engines.factory import EXACT, open_engine

    approximation = approximation or EXACT
    if engine == PLAIN:
        if precision != "fp32" or approximation != EXACT:
            raise InputError("engine plain computes all of it in fp32: take eager for other --precision or less work")
        return model

    names: Any = {"engine": engine, "precision": precision}
    fast = open_engine(model, **names, approximation=approximation, images=images, bounded=bounded, device=device)
    complain(f"engine: {fast.engine}, {fast.precision} ({fast.why})\n")
    return fast
