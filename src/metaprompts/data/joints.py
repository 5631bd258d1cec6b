"""Parse joint names: which joints are mirror pairs, which belong to the lower body, and which are COCO's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metaprompts.errors import InputError

COCO_JOINTS = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
"""The joints of COCO's person keypoints, in their order."""

COCO_SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""Pairs of indices into `COCO_JOINTS` that are connected by a limb."""

_GIVE_PAIRS = "pass --task.flip_pairs [[LEFT,RIGHT],...] (indices from 0; [] for none)"
_LOWER_BODY = ("hip", "knee", "ankle", "foot", "toe", "heel", "leg", "thigh", "shin", "calf", "pelvis")

Side = Literal["left", "right"]

# Words, abbreviations before words (LShoulder), and numbers.
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_SIDES: dict[str, Side] = {"left": "left", "l": "left", "right": "right", "r": "right"}
_OTHER: dict[Side, Side] = {"left": "right", "right": "left"}

Pairs = Sequence[tuple[int, int]]


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


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Find the mirror pairs of joints by name; see `read_names`.

    Args:
        names: the joints in order, for example ``("nose", "left_eye", "right_eye")``

    Returns:
        (index of the left joint, index of the right joint) of every pair, in the order of the left joints

    Raises:
        InputError: a left joint has no right counterpart or vice versa, or two names are equivalent
    """
    read = read_names(names)
    places: dict[JointName, int] = {}
    for index, name in enumerate(read):
        first = places.setdefault(name, index)
        if first != index:
            raise InputError(
                f"joints {names[first]!r} and {names[index]!r} are the same: give every joint a distinct name"
            )
    for index, name in enumerate(read):
        if name.mirrored not in places:
            other = "left" if side_of(name) == "right" else "right"
            raise InputError(
                f"joint {names[index]!r} has no counterpart on the {other}: name it like the others, or {_GIVE_PAIRS}"
            )
    return tuple((index, places[name.mirrored]) for name, index in places.items() if side_of(name) == "left")


def mirror_pairs(names: Sequence[str], given: Pairs | None = None) -> tuple[tuple[int, int], ...]:
    """The joints that are swapped when an image is mirrored.

    Args:
        names: the joints in order
        given: indices of the pairs; None to infer them from the names

    Raises:
        InputError: several joints have names from which no pair can be inferred, or that contradict each other
    """
    if given is not None:
        return tuple(given)
    pairs = flip_pairs(names)
    if not pairs and len(names) > 1:
        raise InputError(
            f"mirroring is on, but no name in task.joints has left or right ({', '.join(names)}): {_GIVE_PAIRS}, or "
            "turn mirroring off (augment.flip 0, test.flip false)"
        )
    return pairs


def describe_mirroring(names: Sequence[str], given: Pairs | None = None) -> str:
    """A line that names the joints that are swapped when an image is mirrored, and those that are not."""
    try:
        pairs = mirror_pairs(names, given)
    except InputError:
        # Images are not mirrored.
        pairs = ()
    named = ", ".join(f"{names[left]}/{names[right]}" for left, right in pairs) or "none"
    alone = [joint for index, joint in enumerate(names) if all(index not in pair for pair in pairs)]
    return f"swapped when an image is mirrored: {named}; unchanged: {', '.join(alone) or 'none'}"


def mirrored_order(names: Sequence[str], given: Pairs | None = None) -> list[int]:
    """The permutation of joints in a mirrored image.

    Args:
        names: the joints in order
        given: see `mirror_pairs`

    Returns:
        the joints' indices, with the pairs of `mirror_pairs` swapped
    """
    order = list(range(len(names)))
    for left, right in mirror_pairs(names, given):
        order[left], order[right] = right, left
    return order


def body_half(names: Sequence[str], given: Sequence[int] | None = None) -> tuple[int, ...]:
    """The joints from the hips down.

    Args:
        names: the joints in order
        given: indices of these joints; None to find them by words like hip, knee or foot in the names, in any case

    Returns:
        indices of these joints; all other joints belong to the upper body

    Raises:
        InputError: the names match no joint, or all of them
    """
    if given is not None:
        return tuple(given)
    found = tuple(place for place, name in enumerate(names) if any(part in name.lower() for part in _LOWER_BODY))
    if len(found) in (0, len(names)):
        raise InputError(
            "half-body crops are on, but the names in task.joints do not distinguish upper and lower body "
            f"({', '.join(names)}): pass --task.lower_body INDEX,INDEX,... (from 0), or --augment.half_body 0"
        )
    return found


def coco_sigmas(names: Sequence[str], sigmas: Sequence[float]) -> dict[int, float]:
    """Look up COCO's OKS sigmas for joints that COCO also has, in any spelling.

    Args:
        names: the joints in order
        sigmas: sigmas of `COCO_JOINTS`

    Returns:
        index of a joint -> its sigma
    """
    known = dict(zip((name.part for name in read_names(COCO_JOINTS)), sigmas, strict=True))
    return {index: known[name.part] for index, name in enumerate(read_names(names)) if name.part in known}


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
