"""Joints and skeleton from the data, for pose recipes that do not name them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaprompts.data.config.pose import PoseData
from metaprompts.data.io.coco_annotations import parse_categories
from metaprompts.data.joint_names import read_names
from metaprompts.data.joints import COCO_JOINTS, COCO_SKELETON
from metaprompts.data.shards.index import read_index
from metaprompts.errors import InputError
from metaprompts.utils.distributed_env import is_first_process
from metaprompts.utils.files import is_file, read_json
from metaprompts.utils.schema import convert, from_dict

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FileJoints:
    """The joints of an annotation file.

    Attributes:
        path: path of the file
        names: names of the joints
        skeleton: pairs of joint indices, from 0, connected in drawings; may be empty
    """

    path: Path
    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]


def complete_joints(task: dict[str, Any], data: Mapping[str, Any]) -> None:
    """Fill in the joints and skeleton of a pose recipe's task section from its annotation file, and report it."""
    if task.get("joints") is not None and task.get("skeleton") is not None:
        return
    try:
        section = from_dict(PoseData, data, "data")
        given = None if task.get("joints") is None else convert(tuple[str, ...], task["joints"], "task.joints")
    except InputError:
        # Reported together with the other errors.
        return
    found = file_joints(section)
    added = {} if found is None else missing_joints({"joints": given, "skeleton": task.get("skeleton")}, found)
    if given is not None and "skeleton" not in added and read_names(given) != read_names(COCO_JOINTS):
        # The default skeleton is for COCO's joints.
        task.setdefault("skeleton", [])
    task.update(added)
    if found is not None and added and is_first_process():
        logger.warning("%s", describe_joints(added, found.path))


def missing_joints(task: Mapping[str, Any], found: FileJoints) -> dict[str, Any]:
    """Joints and skeleton for a task section without them, if those of the data differ from COCO's.

    Args:
        task: the section as given, without ``joints``, ``skeleton`` or both
        found: joints of the data

    Returns:
        "joints", "skeleton" or both, whichever are missing
    """
    added: dict[str, Any] = {}
    is_coco = read_names(found.names) == read_names(COCO_JOINTS)
    given = task.get("joints")
    if given is None and not is_coco:
        added["joints"] = list(found.names)
    has_given = given is None or (isinstance(given, list | tuple) and read_names(given) == read_names(found.names))
    is_other = {frozenset(edge) for edge in found.skeleton} != {frozenset(edge) for edge in COCO_SKELETON}
    if task.get("skeleton") is None and has_given and (is_other or not is_coco) and (found.skeleton or not is_coco):
        added["skeleton"] = [list(edge) for edge in found.skeleton]
    return added


def describe_joints(added: Mapping[str, Any], path: Path) -> str:
    """A line that describes the joints taken from a file."""
    lines = []
    if "joints" in added:
        lines.append(f"task.joints are the {len(added['joints'])} joints of {path}: {', '.join(added['joints'])}")
    if "skeleton" in added:
        edges = added["skeleton"]
        shown = ", ".join(f"{start}-{end}" for start, end in edges) or "none, because the file has none"
        lines.append(f"task.skeleton {'is' if lines else f'from {path}:'} {shown}")
    return "; ".join(lines)


def file_joints(data: PoseData) -> FileJoints | None:
    """Read the joints from the training annotations, or else from the validation annotations.

    Returns:
        the joints; None if no annotations are readable, in which case reading the samples reports the reason
    """
    try:
        if data.shards is not None:
            for split in read_index(data.shards).splits.values():
                if split.people is not None:
                    people = split.people
                    return FileJoints(
                        path=data.shards / people.annotations, names=people.joint_names, skeleton=people.skeleton
                    )
        for name in (data.train, data.val) if data.root is not None else ():
            if data.root is not None and isinstance(name, str) and is_file(data.root / name):
                return _read(data.root / name)
    except InputError:
        return None
    return None


def _read(path: Path) -> FileJoints | None:
    content = read_json(path)
    entries = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        return None
    first = next((each for each in parse_categories(entries, path) if each.joints), None)
    return None if first is None else FileJoints(path=path, names=first.joints, skeleton=first.skeleton)
