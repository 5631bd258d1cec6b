"""Data and augmentation of segmentation recipes."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from metaprompts.data.class_names import ADE20K, CITYSCAPES, class_order
from metaprompts.data.config.base import Factor, Openers, PairedSection, Probability, Side, check_factor_ranges
from metaprompts.data.datasets.segmentation import SegmentationPairs
from metaprompts.data.io.label_tables import LabelTable, label_table
from metaprompts.data.io.list_files import find_pairs
from metaprompts.data.layouts.ade20k import Ade20k
from metaprompts.data.layouts.cityscapes import Cityscapes
from metaprompts.data.layouts.mapillary import Mapillary, VistasVersion, vistas_classes
from metaprompts.data.sample import SampleDataset, Split
from metaprompts.data.transforms.color import PhotometricDistortion
from metaprompts.data.transforms.geometric import Pad, RandomCrop, RandomFlip
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range, check_ranges

logger = logging.getLogger(__name__)

_MASK_KEYS = ("layout", "labels", "as_cityscapes", "ignored", "reduce_zero_label", "label_map")


@dataclass(frozen=True, kw_only=True)
class SegmentationData(PairedSection):
    """Images with masks of class indices.

    Attributes:
        layout: "lists" for ``train`` and ``val`` as above, or the layout of a published data set: "ade20k",
            "cityscapes" or "mapillary"
        labels: folder of masks. For cityscapes: gtCoarse or another folder, or none for gtFine. For mapillary: v2.0, or
            none for v1.2
        extra: (cityscapes) folder with masks of train_extra, which is then added to the training data: gtCoarse, or
            automatic labels
        as_cityscapes: (mapillary v1.2) convert the labels to the 19 classes of Cityscapes
        ignored: mask values that are not classes, in addition to 255; they must not be class indices
        label_map: mapping of mask values or colors to classes, VALUE=CLASS,...; a value is a number, a color (255,0,0
            or #ff0000; masks are then read as colors) or * for all others; a class is a name in task.classes, its
            index or "ignored". Values not in the mapping keep their meaning, unless another value is mapped to their
            class
        reduce_zero_label: in the masks, 0 is "ignore" and 1 is the first class, as in layout ade20k, where this is
            implied
    """

    layout: Literal["lists", "ade20k", "cityscapes", "mapillary"] = "lists"
    labels: str | None = None
    extra: str | None = None
    as_cityscapes: bool = False
    ignored: tuple[Annotated[int, Range(0, 65535)], ...] = ()
    label_map: dict[str, Annotated[int, Range(0, 255)] | str] | None = None
    reduce_zero_label: bool = False

    task: ClassVar[str] = "segmentation"
    shard_keys: ClassVar[dict[Split, tuple[str, ...]]] = {"train": (*_MASK_KEYS, "extra"), "val": _MASK_KEYS}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_defaults_unless(("lists",), *self.list_keys, "ignored", "label_map")
        self.check_defaults_unless(("lists", "ade20k"), "reduce_zero_label")
        self.check_defaults_unless(("cityscapes", "mapillary"), "labels")
        self.check_defaults_unless(("cityscapes",), "extra")
        self.check_defaults_unless(("mapillary",), "as_cityscapes")
        if self.layout == "mapillary" and self.labels not in (None, "v1.2", "v2.0"):
            raise InputError(f"data.labels is {self.labels!r}; expected v1.2 or v2.0 for mapillary")
        if self.as_cityscapes and self.labels == "v2.0":
            raise InputError("data.as_cityscapes requires mapillary v1.2, but data.labels is v2.0: omit one of them")

    def parts(self, split: Split, classes: Sequence[str]) -> Openers:
        """The parts of a split, which are opened one by one; ``classes`` are the task's classes."""
        if self.layout == "lists":
            # Shards do not record whether a class was left out when they were written.
            self._label_table(classes)
        return self.with_shards(split, lambda: self._named_parts(split, classes), classes)

    def _named_parts(self, split: Split, classes: Sequence[str]) -> Openers:
        parts = self._in_folders(split, classes)
        return self.reading_images({name: partial(self._named, part, classes) for name, part in parts.items()})

    def _named(self, open_part: Callable[[], SegmentationPairs], classes: Sequence[str]) -> SampleDataset:
        """Open a part, and renumber its classes to match the task."""
        pairs, known = open_part(), self._known_classes(classes)
        order = None if known is None else class_order(classes, known, f"data.layout {self.layout}")
        if order is not None:
            logger.warning("task.classes differ in order from %s: labels are numbered by name", self.layout)
            pairs.renumber(order)
        return pairs

    def _known_classes(self, classes: Sequence[str]) -> Sequence[str] | None:
        """The names of the data set's classes, if they are known."""
        if self.layout == "ade20k":
            return ADE20K
        if self.layout == "cityscapes" or self.as_cityscapes:
            return CITYSCAPES
        if self.layout == "mapillary":
            return vistas_classes(self.folder(), self._vistas_version, classes)
        return None

    @property
    def _vistas_version(self) -> VistasVersion:
        return "v2.0" if self.labels == "v2.0" else "v1.2"

    def _in_folders(self, split: Split, classes: Sequence[str]) -> dict[str, Callable[[], SegmentationPairs]]:
        if self.layout == "ade20k":
            return {split: lambda: Ade20k(self.folder(), split, classes=len(classes))}
        if self.layout == "cityscapes":
            return self._cityscapes(split, classes)
        if self.layout == "mapillary":
            settings: dict[str, Any] = {"version": self._vistas_version, "as_cityscapes": self.as_cityscapes}
            return {split: lambda: Mapillary(self.folder(), split, classes=len(classes), **settings)}
        return {split: lambda: self._listed(split, classes)}

    def unlabeled(self) -> dict[str, str]:
        """Folders of images without published labels: part -> folder."""
        folders = {"cityscapes": "leftImg8bit/test", "mapillary": "testing/images"}
        return {"test": folders[self.layout]} if self.layout in folders else {}

    def _cityscapes(self, split: Split, classes: Sequence[str]) -> dict[str, Callable[[], SegmentationPairs]]:
        labels, extra, count = self.labels or "gtFine", self.extra, len(classes)
        parts: dict[str, Callable[[], SegmentationPairs]]
        parts = {split: lambda: Cityscapes(self.folder(), split, labels=labels, classes=count)}
        if split == "train" and extra is not None:
            parts["train_extra"] = lambda: Cityscapes(self.folder(), "train_extra", labels=extra, classes=count)
        return parts

    def _listed(self, split: Split, classes: Sequence[str]) -> SegmentationPairs:
        return SegmentationPairs(find_pairs(self.folder(), *self.names(split)), self._label_table(classes))

    def _label_table(self, classes: Sequence[str]) -> LabelTable:
        return label_table(classes, self.ignored, reduce_zero_label=self.reduce_zero_label, label_map=self.label_map)


@dataclass(frozen=True, kw_only=True)
class SegmentationAugment:
    """mmsegmentation's standard augmentation.

    Attributes:
        scale_range: lowest and highest factor of ``data.image_size``
        crop_size: (height, width) of the crop; smaller images are then padded, with gray pixels and ignored labels
        max_class_share: a crop in which one class covers at least this fraction is drawn again, up to 10 times; 1
            accepts any crop
        flip: probability of mirroring
        color: whether to distort brightness, contrast, saturation and hue
    """

    crop_size: tuple[Side, Side]
    scale_range: tuple[Factor, Factor] = (0.5, 2.0)
    max_class_share: Annotated[float, Range(0, 1, above=True)] = 0.75
    flip: Probability = 0.5
    color: bool = True

    def __post_init__(self) -> None:
        check_ranges(self, "augment")
        check_factor_ranges(scale_range=self.scale_range)

    def keeps_images(self, data: SegmentationData) -> bool:
        """Whether an image is the same in every epoch, except for mirroring."""
        return self.scale_range == (1, 1) and self.crop_size == data.image_size and not self.color

    def transforms(self, data: SegmentationData) -> list[Transform]:
        """The training transforms, in mmsegmentation's order."""
        share = self.max_class_share if self.max_class_share < 1 else None
        return [
            *data.scale(self.scale_range),
            RandomCrop(*self.crop_size, max_class_share=share),
            RandomFlip(self.flip),
            *([PhotometricDistortion()] if self.color else []),
            Pad(*self.crop_size),
        ]
