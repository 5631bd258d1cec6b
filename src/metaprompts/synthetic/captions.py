"""Ground-truth captions of scenes: the visible objects, largest first."""

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic.world import Thing

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Smaller objects are not mentioned.
_WORTH_SHARE = 0.0025


def caption(opening: str, things: tuple[Thing, ...], visible: NDArray[np.int32]) -> str:
    """Describe an image in one sentence.

    Args:
        opening: "a street with brick houses under a clear sky"
        things: objects of the world
        visible: (H, W), index of the thing at every pixel, -1 for the sky
    """
    areas = np.bincount(visible[visible >= 0], minlength=len(things)) / visible.size
    groups: dict[str, list[int]] = defaultdict(list)
    for number in np.argsort(-areas, kind="stable"):
        if areas[number] >= _WORTH_SHARE and things[number].noun:
            groups[things[number].noun].append(int(number))
    phrases = [_phrase(noun, [things[number].detail for number in numbers]) for noun, numbers in groups.items()]
    return ", ".join([opening, *phrases])


def _phrase(noun: str, details: list[str]) -> str:
    if len(details) == 1:
        return _one(noun, details[0])
    counted = f"{_NUMBERS[min(len(details), 10)]} {_plural(noun)}"
    if not any(details):
        return counted
    return f"{counted}: {' and '.join(_detail(noun, detail) for detail in details)}"


def _one(noun: str, detail: str) -> str:
    described = f"{noun} {detail}" if noun == "person" else f"{detail} {noun}".strip()
    return f"{'an' if described[0] in 'aeiou' else 'a'} {described}"


def _detail(noun: str, detail: str) -> str:
    if noun == "person" or not detail:
        return f"one {detail}".strip()
    return f"{'an' if detail[0] in 'aeiou' else 'a'} {detail} one"


def _plural(noun: str) -> str:
    if noun == "person":
        return "people"
    if noun == "bookshelf":
        return "bookshelves"
    return noun + "s"
