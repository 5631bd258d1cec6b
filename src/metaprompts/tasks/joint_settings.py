"""Checks of pose settings: joints, and people's boxes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from metaprompts.data.joints import coco_sigmas, read_names
from metaprompts.errors import InputError
from metaprompts.metrics.oks_nms import COCO_SIGMAS
from metaprompts.utils.wording import check_names_are_lines

# For joints that COCO does not have: COCO's sigma of the most similar joint.
_OTHER_SIGMAS = {("neck",): 0.079, ("head", "top"): 0.035}
OTHER_SIGMA = 0.079
"""The sigma of unknown joints: COCO's for shoulders."""


def sigmas_by_name(joints: Sequence[str]) -> tuple[float, ...]:
    """OKS sigma of each joint: COCO's, else that of the most similar joint."""
    known = _known_sigmas(joints)
    return tuple(known.get(index, OTHER_SIGMA) for index in range(len(joints)))


def unknown_joints(joints: Sequence[str]) -> list[str]:
    """Joints whose names are unknown, for which `sigmas_by_name` gives 0.079."""
    known = _known_sigmas(joints)
    return [joint for index, joint in enumerate(joints) if index not in known]


def _known_sigmas(joints: Sequence[str]) -> dict[int, float]:
    parts = [name.part for name in read_names(joints)]
    others = {index: _OTHER_SIGMAS[part] for index, part in enumerate(parts) if part in _OTHER_SIGMAS}
    return others | coco_sigmas(joints, COCO_SIGMAS)


def check_joint_names(joints: Sequence[str]) -> None:
    """Check that every joint has its own name.

    Raises:
        InputError: there are no joints, or two have the same name
    """
    if not joints:
        raise InputError("task.joints is empty; expected the name of each joint")
    check_names_are_lines("task.joints", joints)
    for name, times in Counter(joints).most_common(1):
        if times > 1:
            raise InputError(f"task.joints has {name!r} {times} times: give every joint a distinct name")


def check_skeleton(skeleton: Sequence[tuple[int, int]], joints: int) -> None:
    """Check the limbs of a skeleton.

    Raises:
        InputError: a limb's joint is out of range, or both its joints are the same
    """
    if any(joint >= joints for edge in skeleton for joint in edge):
        raise InputError(f"task.skeleton names a joint outside 0 to {joints - 1}; expected indices of task.joints")
    if any(start == end for start, end in skeleton):
        raise InputError("task.skeleton has a limb from a joint to itself; expected pairs of different joints")


def check_indices(key: str, indices: Sequence[int], joints: int) -> None:
    """Check indices of joints in a key of the task section.

    Raises:
        InputError: an index is out of range, or given twice
    """
    for index, times in Counter(indices).items():
        if times > 1 or not 0 <= index < joints:
            raise InputError(
                f"task.{key} has joint {index} {times} times; expected 0 to {joints - 1}, each at most once"
            )


def box_and_score(box: Sequence[Any]) -> tuple[Sequence[float], float]:
    """A person's box x, y, width, height in pixels, and the box's score, by default 1.

    Raises:
        InputError: the value is not a box
    """
    values = np.asarray(box)
    if values.shape not in ((4,), (5,)) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(f"a person's box is {box!r}; expected x, y, width, height in pixels, and optionally a score")
    if not (values[2:4] > 0).all():
        raise InputError(f"a person's box is {box!r}; expected a width and a height above 0")
    return values[:4].tolist(), float(values[4]) if len(values) > 4 else 1.0
