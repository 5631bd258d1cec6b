"""Data and augmentation of pose recipes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from metaprompts.data.config.base import Factor, Openers, Probability, Section, Share, check_factor_ranges
from metaprompts.data.datasets.keypoints import CocoKeypoints, People
from metaprompts.data.layouts.folders import OFFICIAL
from metaprompts.data.sample import Split
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.data.transforms.transform import Transform
from metaprompts.utils.schema import Range, check_ranges

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

    def dataset(self, split: Split) -> People:
        """The samples of a split, one for each person."""
        (open_part,) = self.parts(split).values()
        people = open_part()
        assert isinstance(people, People)
        return people

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
