"""The engines, as commands offer them."""

import sys
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.model import MetaPromptModel
    from metaprompts.runtime.fast import FastModel

PLAIN = "plain"
"""The model as it is in training."""


def opened(
    model: "MetaPromptModel", engine: str, precision: str, *, pictures: int, steps: int | None = None
) -> "MetaPromptModel | FastModel":
    """The model as an engine executes it; tells on stderr which one, and why.

    Args:
        model: on its device
        engine: "plain", "auto", or one of `metaprompts.runtime.opening`
        precision: "fp32", "bf16" or "int8"
        pictures: about how many will be predicted
        steps: how often to look, if fewer times than K

    Raises:
        InputError: there is no such engine, or it cannot do that
    """
    if engine == PLAIN:
        if precision != "fp32" or steps is not None:
            raise InputError("engine plain has neither --precision nor --steps: take eager for that")
        return model
    from metaprompts.runtime.opening import open_engine

    names: Any = {"engine": engine, "precision": precision}
    fast = open_engine(model, **names, steps=steps, pictures=pictures)
    sys.stderr.write(f"engine: {fast.engine}, {fast.precision} ({fast.why})\n")
    return fast
