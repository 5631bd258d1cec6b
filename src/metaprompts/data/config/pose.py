"""Data and augmentation of pose recipes, and joints from the data for recipes that do not name them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from metaprompts.data.config.base import Factor, Openers, Probability, Section, Share, check_factor_ranges
from metaprompts.data.datasets.keypoints import CocoKeypoints
from metaprompts.data.io.coco_annotations import parse_categories
from metaprompts.data.joints import COCO_JOINTS, COCO_SKELETON, read_names
from metaprompts.data.layouts.folders import OFFICIAL
from metaprompts.data.sample import Split
from metaprompts.data.shards.index import read_index
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.utils.distributed_env import is_first_process
from metaprompts.utils.files import is_file, read_json
from metaprompts.utils.schema import Range, check_ranges, convert, from_dict

logger = logging.getLogger(__name__)

_COCO_FILES = (
    "person_keypoints_train2017.json",
    "person_keypoints_val2017.json",
    "COCO_val2017_detections_AP_H_56_person.json",
)


@dataclass(frozen=True, kw_only=True)
class PoseData(Section):
    """People annotated with keypoints.

    Attributes:
        train: COCO keypoint JSON
        train_images: folder of the training images
        val: COCO keypoint JSON; or a fraction of the training images, for example 0.1, held out by training.seed; none
            to train without validation
        val_images: folder of the validation images
        val_boxes: JSON of detected boxes that replace the annotated boxes
    """

    train: str = "annotations/person_keypoints_train2017.json"
    train_images: str = "train2017"
    val: str | Share | None = "annotations/person_keypoints_val2017.json"
    val_images: str = "val2017"
    val_boxes: str | None = None

    task: ClassVar[str] = "pose"
    shard_keys: ClassVar[dict[Split, tuple[str, ...]]] = {"train": (), "val": ("val_boxes",)}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._read_val(val_boxes=self.val_boxes)

    def parts(self, split: Split) -> Openers:
        """The parts of a split, which are opened one by one."""
        return self.sharded(split) or self.reading_images(self._in_folders(split))

    def _in_folders(self, split: Split) -> Openers:
        if split == "train":
            return {split: lambda: CocoKeypoints(self.folder(), self.train, self.train_images)}
        boxes = self.val_boxes
        name = split if boxes is None else "val_boxes"
        val = self._list_name(self.val)
        return {name: lambda: CocoKeypoints(self.folder(), val, self.val_images, detections=boxes)}

    def official(self) -> dict[str, int]:
        """Number of people in the published data set, if its own file names are used: part -> number."""
        names = {"train": (self.train,), "val": (self.val,), "val_boxes": (self.val, self.val_boxes)}
        return {part: number for part, number in OFFICIAL["coco"].items() if all(map(_is_coco, names[part]))}


@dataclass(frozen=True, kw_only=True)
class PoseAugment:
    """mmpose's top-down augmentation.

    Attributes:
        flip: probability of mirroring
        half_body: probability of cropping to the upper or lower body
        scale: lowest and highest factor of the crop's size (mmpose: 0.5 to 1.5)
        rotation_deg: standard deviation of the rotation, clipped at twice this value
        rotation: probability of rotating
    """

    flip: Probability = 0.5
    half_body: Probability = 0.3
    scale: tuple[Factor, Factor] = (0.5, 1.5)
    rotation_deg: Annotated[float, Range(0, 360)] = 40.0
    rotation: Probability = 0.6

    def __post_init__(self) -> None:
        check_ranges(self, "augment")
        check_factor_ranges(scale=self.scale)

    def keeps_images(self, data: PoseData) -> bool:
        """Whether an image is the same in every epoch, except for mirroring."""
        del data
        return self.scale == (1, 1) and not self.half_body and not self.rotation

    def transforms(
        self,
        crop: tuple[int, int],
        joints: Sequence[str],
        padding: float,
        *,
        flip_pairs: tuple[tuple[int, int], ...] | None = None,
        lower_body: tuple[int, ...] | None = None,
    ) -> list[Transform]:
        """The training transforms, in order; see `PoseCrop`."""
        return [
            PoseCrop(
                *crop,
                tuple(joints),
                augment=True,
                padding=padding,
                flip_probability=self.flip,
                half_body_probability=self.half_body,
                scale=self.scale,
                rotation_deg=self.rotation_deg,
                rotation_probability=self.rotation,
                flip_pairs=flip_pairs,
                lower_body=lower_body,
            )
        ]


def _is_coco(name: str | float | None) -> bool:
    return isinstance(name, str) and Path(name).name in _COCO_FILES


class _FileJoints(NamedTuple):
    """The joints of an annotation file; the skeleton's pairs of joint indices, from 0, may be none."""

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
    found = _file_joints(section)
    added = {} if found is None else _missing_joints(given, task.get("skeleton"), found)
    if given is not None and "skeleton" not in added and read_names(given) != read_names(COCO_JOINTS):
        # The default skeleton is for COCO's joints.
        task.setdefault("skeleton", [])
    task.update(added)
    if found is not None and added and is_first_process():
        logger.warning("%s", _describe_joints(added, found.path))


def _missing_joints(given: tuple[str, ...] | None, skeleton: Any, found: _FileJoints) -> dict[str, Any]:
    """Joints, skeleton or both for a task section without them, if those of the data differ from COCO's."""
    added: dict[str, Any] = {}
    is_coco = read_names(found.names) == read_names(COCO_JOINTS)
    if given is None and not is_coco:
        added["joints"] = list(found.names)
    has_given = given is None or read_names(given) == read_names(found.names)
    is_other = {frozenset(edge) for edge in found.skeleton} != {frozenset(edge) for edge in COCO_SKELETON}
    if skeleton is None and has_given and (is_other or not is_coco) and (found.skeleton or not is_coco):
        added["skeleton"] = [list(edge) for edge in found.skeleton]
    return added


def _describe_joints(added: Mapping[str, Any], path: Path) -> str:
    lines = []
    if "joints" in added:
        lines.append(f"task.joints are the {len(added['joints'])} joints of {path}: {', '.join(added['joints'])}")
    if "skeleton" in added:
        edges = added["skeleton"]
        shown = ", ".join(f"{start}-{end}" for start, end in edges) or "none, because the file has none"
        lines.append(f"task.skeleton {'is' if lines else f'from {path}:'} {shown}")
    return "; ".join(lines)


def _file_joints(data: PoseData) -> _FileJoints | None:
    """The joints of the training or else the validation annotations; None if unreadable, which is reported later."""
    try:
        if data.shards is not None:
            for split in read_index(data.shards).splits.values():
                if (people := split.people) is not None:
                    return _FileJoints(data.shards / people.annotations, people.joint_names, people.skeleton)
        for name in (data.train, data.val) if data.root is not None else ():
            if data.root is not None and isinstance(name, str) and is_file(data.root / name):
                return _read_joints(data.root / name)
    except InputError:
        return None
    return None


def _read_joints(path: Path) -> _FileJoints | None:
    content = read_json(path)
    entries = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        return None
    first = next((each for each in parse_categories(entries, path) if each.joints), None)
    return None if first is None else _FileJoints(path, first.joints, first.skeleton)
