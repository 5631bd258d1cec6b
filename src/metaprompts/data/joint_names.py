"""Parse joint names: the side and the body part."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right"]

# Words, abbreviations before words (LShoulder), and numbers.
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_SIDES: dict[str, Side] = {"left": "left", "l": "left", "right": "right", "r": "right"}
_OTHER: dict[Side, Side] = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class JointName:
    """A parsed joint name.

    Attributes:
        part: the name's words in lower case, without side words
        sides: the words that name a side (in L_F_Paw, only L); most names have one or none
    """

    part: tuple[str, ...]
    sides: tuple[Side, ...]

    @property
    def mirrored(self) -> "JointName":
        """The joint in a mirror image."""
        return JointName(self.part, tuple(_OTHER[side] for side in self.sides))


def read_names(names: Sequence[str]) -> list[JointName]:
    """Read the names of all joints of a body.

    Words are separated by characters other than letters and digits, or by case: left_eye, L.Eye, "Right Ear",
    eye-left, LShoulder, rightEye. Left, right, L and R are sides, in any case, even without a separator (lefteye). So
    is a leading or trailing l or r (lsho, kneeR), if the same name with the other letter also exists.

    Args:
        names: names of the joints, in order
    """
    read = [_read(name) for name in names]
    known = {(each.part, each.sides) for each in read}
    return [each if each.sides else _glued(each, known) for each in read]


def side_of(name: JointName) -> Side | None:
    """The side of a joint; None for joints in the middle."""
    return name.sides[0] if name.sides else None


def _read(name: str) -> JointName:
    part: list[str] = []
    sides: list[Side] = []
    for token in _TOKEN.findall(name):
        side, rest = _split(token.lower())
        sides += [side] if side else []
        part += [rest] if rest else []
    # A name with only punctuation has nothing to parse.
    return JointName(tuple(part) if part or sides else (name,), tuple(sides))


def _split(word: str) -> tuple[Side | None, str]:
    """A side, and the rest of a word: left -> (left, ""), lefteye -> (left, "eye"), eye -> (None, "eye")."""
    if word in _SIDES:
        return _SIDES[word], ""
    for side in ("left", "right"):
        if word.startswith(side):
            return _SIDES[side], word.removeprefix(side)
    return None, word


def _glued(name: JointName, known: set[tuple[tuple[str, ...], tuple[Side, ...]]]) -> JointName:
    """Parse a name whose side is a letter or suffix of its first or last word, if the opposite joint is known."""
    for place, of_last in ((0, False), (-1, True)) if name.part else ():
        word = name.part[place]
        for mark, other in (("l", "r"), ("r", "l"), ("left", "right"), ("right", "left")):
            rest = word.removesuffix(mark) if of_last else word.removeprefix(mark)
            if rest == word or not rest:
                continue
            partner = _replaced(name.part, place, rest + other if of_last else other + rest)
            if (partner, ()) in known:
                return JointName(_replaced(name.part, place, rest), (_SIDES[mark],))
    return name


def _replaced(words: tuple[str, ...], place: int, word: str) -> tuple[str, ...]:
    changed = list(words)
    changed[place] = word
    return tuple(changed)
