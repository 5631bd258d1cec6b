"""What augment sections allow, in words that name the key."""

from typing import Annotated

from metaprompts.errors import InputError
from metaprompts.typed import Range

Probability = Annotated[float, Range(0, 1)]
Factor = Annotated[float, Range(0, 100, above=True)]
Share = Annotated[float, Range(0, 1, above=True, below=True)]
Side = Annotated[int, Range(1, 65536)]
"""Of a picture, in pixels."""


def refuse_no_factors(**values: tuple[float, float]) -> None:
    """Check that keys of the augment section are a lowest and a highest factor.

    Raises:
        InputError: the first is above the second
    """
    for name, (lowest, highest) in values.items():
        if not lowest <= highest:
            raise InputError(f"augment.{name} is {lowest},{highest}; wanted LOWEST,HIGHEST with 0 < lowest <= highest")
