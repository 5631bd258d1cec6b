"""The data sections of a recipe: what to read, and how to see it in training and in validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metaprompts.data.depth import DepthFolder
from metaprompts.data.pose import CocoKeypoints
from metaprompts.data.samples import SampleDataset
from metaprompts.data.segmentation import SegmentationFolder
from metaprompts.data.transforms.color import DepthColor, PhotometricDistortion
from metaprompts.data.transforms.cutdepth import CutDepth
from metaprompts.data.transforms.geometric import RandomCrop, RandomFlip, RandomResize, RandomScale
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.data.transforms.resize_image import ResizeImage
from metaprompts.data.transforms.transform import EveryNth, Transform
from metaprompts.errors import InputError

Split = Literal["train", "val"]
_CUT_EVERY = 4


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What every data section has.

    Attributes:
        root: folder that everything is relative to
        workers: processes that read and transform
    """

    root: Path | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(f"data.workers is {self.workers}; wanted 0 or more")

    def folder(self) -> Path:
        """The root.

        Raises:
            InputError: it was not given, or is no folder
        """
        if self.root is None:
            raise InputError("data.root is not set: say --data.root DIR, the folder of the pictures")
        if not self.root.is_dir():
            raise InputError(f"data.root {self.root} is no folder: give the folder of the pictures")
        return self.root


@dataclass(frozen=True, kw_only=True)
class _PairedData(_Data):
    """Pictures with a label file each, by list file or by folders.

    Attributes:
        train: list file of ``image label`` lines, or folder of pictures
        train_labels: folder of labels, where ``train`` is a folder
        val: as ``train``
        val_labels: as ``train_labels``
        image_size: (height, width) to which pictures are brought; none for their own
        keep_aspect: whether pictures keep their shape: then the sides of ``image_size`` are only upper bounds
    """

    train: str = "train.txt"
    train_labels: str | None = None
    val: str = "val.txt"
    val_labels: str | None = None
    image_size: tuple[int, int] | None = None
    keep_aspect: bool = True

    def _names(self, split: Split) -> tuple[str, str | None]:
        return (self.train, self.train_labels) if split == "train" else (self.val, self.val_labels)

    def val_transforms(self) -> list[Transform]:
        """Only the picture is resized: predictions are compared with the labels at the labels' own size."""
        return [ResizeImage(*self.image_size, keeps_aspect=self.keep_aspect)] if self.image_size else []

    def scale(self, ratio: tuple[float, float]) -> list[Transform]:
        """The transform that brings a training picture to ``image_size`` times a random ratio."""
        if self.image_size is None:
            return []
        if self.keep_aspect:
            return [RandomScale(longest=max(self.image_size), shortest=min(self.image_size), ratio=ratio)]
        return [RandomResize(*self.image_size, ratio=ratio)]


@dataclass(frozen=True, kw_only=True)
class SegmentationData(_PairedData):
    """Pictures with masks of class indices.

    Attributes:
        ignored: mask values that are no class, besides 255
        reduce_zero_label: 0 is "ignore" in the masks and 1 the first class (ADE20K)
    """

    ignored: tuple[int, ...] = ()
    reduce_zero_label: bool = False

    def dataset(self, split: Split, classes: int) -> SampleDataset:
        """The samples of a split."""
        images, labels = self._names(split)
        return SegmentationFolder(
            self.folder(),
            images,
            labels,
            classes=classes,
            ignored=self.ignored,
            reduce_zero_label=self.reduce_zero_label,
        )


@dataclass(frozen=True, kw_only=True)
class SegmentationAugment:
    """mmsegmentation's standard augmentation.

    Attributes:
        ratio: lowest and highest factor on ``data.image_size``
        crop: (height, width) that is cut out; smaller pictures are padded
        max_class_share: a crop with more than this of one class is drawn again, up to 10 times
        flip: probability of mirroring
        color: whether brightness, contrast, saturation and hue are distorted
    """

    crop: tuple[int, int]
    ratio: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75
    flip: float = 0.5
    color: bool = True

    def transforms(self, data: SegmentationData) -> list[Transform]:
        """The training transforms, in order."""
        return [
            *data.scale(self.ratio),
            RandomCrop(*self.crop, max_class_share=self.max_class_share),
            RandomFlip(self.flip),
            *([PhotometricDistortion()] if self.color else []),
        ]


@dataclass(frozen=True, kw_only=True)
class DepthData(_PairedData):
    """Pictures with depth files.

    Attributes:
        units_per_meter: what stored integers are divided by: 1000 for millimeters, 256 for KITTI
    """

    units_per_meter: float = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.units_per_meter > 0:
            raise InputError(f"data.units_per_meter is {self.units_per_meter}; wanted more than 0")

    def dataset(self, split: Split) -> SampleDataset:
        """The samples of a split."""
        images, labels = self._names(split)
        return DepthFolder(self.folder(), images, labels, units_per_meter=self.units_per_meter)


@dataclass(frozen=True, kw_only=True)
class DepthAugment:
    """The released depth augmentation.

    Attributes:
        crop: (height, width) that is cut out; smaller pictures are padded
        cutdepth: on every 4th sample, draw a strip of the depth into the picture: "released" wraps it as the released
            code does, "scaled" does not, none leaves it out
        flip: probability of mirroring
        color: whether brightness, contrast, gamma, hue, saturation and value are changed
    """

    crop: tuple[int, int]
    cutdepth: Literal["released", "scaled"] | None = None
    flip: float = 0.5
    color: bool = True

    def transforms(self, data: DepthData, max_depth_m: float) -> list[Transform]:
        """The training transforms, in order."""
        cut: list[Transform] = []
        if self.cutdepth is not None:
            strip = CutDepth(self.cutdepth, max_depth_m=max_depth_m, units_per_meter=data.units_per_meter)
            cut = [EveryNth(strip, _CUT_EVERY)]
        return [
            *data.scale((1.0, 1.0)),
            *cut,
            RandomFlip(self.flip),
            RandomCrop(*self.crop),
            *([DepthColor()] if self.color else []),
        ]


@dataclass(frozen=True, kw_only=True)
class PoseData(_Data):
    """People annotated with keypoints.

    Attributes:
        train: COCO keypoint JSON
        train_images: folder of its pictures
        val: COCO keypoint JSON
        val_images: folder of its pictures
        val_boxes: JSON of detected boxes that take the place of the annotated ones
    """

    train: str = "annotations/person_keypoints_train2017.json"
    train_images: str = "train2017"
    val: str = "annotations/person_keypoints_val2017.json"
    val_images: str = "val2017"
    val_boxes: str | None = None

    def dataset(self, split: Split) -> CocoKeypoints:
        """The samples of a split, one for each person."""
        if split == "train":
            return CocoKeypoints(self.folder(), self.train, self.train_images)
        return CocoKeypoints(self.folder(), self.val, self.val_images, detections=self.val_boxes)


@dataclass(frozen=True, kw_only=True)
class PoseAugment:
    """mmpose's standard top-down augmentation.

    Attributes:
        flip: probability of mirroring
        half_body: probability of cropping to the upper or lower body
        scale: lowest and highest factor on the crop's size
        rotation_deg: standard deviation of the rotation, cut off at twice this
        rotation: probability of rotating
    """

    flip: float = 0.5
    half_body: float = 0.3
    scale: tuple[float, float] = (0.75, 1.25)
    rotation_deg: float = 40.0
    rotation: float = 0.6

    def transforms(self, crop: tuple[int, int], joints: Sequence[str], padding: float) -> list[Transform]:
        """The training transforms, in order."""
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
            )
        ]
