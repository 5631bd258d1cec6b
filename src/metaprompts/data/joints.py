"""What the names of joints tell: which are mirror images, which belong to the lower body."""

from collections.abc import Sequence

from metaprompts.errors import InputError

COCO_JOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The joints of COCO's person keypoints, in their order."""

_LOWER_BODY = ("hip", "knee", "ankle", "foot", "toe", "heel")


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Find the joints that change places when a picture is mirrored.

    Args:
        names: the joints in order, such as ``("nose", "left_eye", "right_eye")``

    Returns:
        (index of ``left_x``, index of ``right_x``) of every such pair, in the order of the left ones

    Raises:
        InputError: a ``left_x`` without ``right_x`` or the other way round, or a name twice
    """
    places = {name: index for index, name in enumerate(names)}
    if len(places) != len(names):
        raise InputError(f"joint names {', '.join(names)} are not all different")
    for name in names:
        if _mirrored(name) not in places:
            raise InputError(f"joint {name!r} has no partner {_mirrored(name)!r}: joints are mirrored by these names")
    return tuple((index, places[_mirrored(name)]) for name, index in places.items() if name.startswith("left_"))


def mirrored_order(names: Sequence[str]) -> list[int]:
    """Say which joint of a picture each joint of its mirror image is.

    Args:
        names: the joints in order

    Returns:
        their places, with those of `flip_pairs` exchanged
    """
    order = list(range(len(names)))
    for left, right in flip_pairs(names):
        order[left], order[right] = right, left
    return order


def lower_body(names: Sequence[str]) -> tuple[int, ...]:
    """Find the joints from the hips down, by name (hip, knee, ankle, foot, toe, heel).

    Args:
        names: the joints in order

    Returns:
        their indices; all others are the upper body's
    """
    return tuple(index for index, name in enumerate(names) if any(part in name for part in _LOWER_BODY))


def _mirrored(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name
