"""Data and augmentation of depth recipes."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from metaprompts.data.config.base import Openers, PairedSection, Probability, Side
from metaprompts.data.datasets.pairs import DepthPairs
from metaprompts.data.datasets.views import with_sky
from metaprompts.data.io.depth_files import LARGEST_SCALE, SMALLEST_SCALE, DepthEncoding, DepthKind
from metaprompts.data.io.list_files import find_pairs
from metaprompts.data.layouts import kitti, nyu
from metaprompts.data.sample import SampleDataset, Split
from metaprompts.data.transforms.color import CutDepth, DepthColor
from metaprompts.data.transforms.geometric import Pad, RandomCrop, RandomFlip
from metaprompts.data.transforms.transform import EveryNth, Transform
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range, check_ranges

_CUT_EVERY = 4
# Keys that apply only to lists.
_LIST_KEYS = ("depth_scale", "depth_kind", "focal_baseline", "sky", "sky_class")


@dataclass(frozen=True, kw_only=True)
class DepthData(PairedSection):
    """Images with depth files.

    Attributes:
        layout: "lists" for ``train`` and ``val`` as above, or the layout of a published data set: "nyu" (sync,
            official_splits and their lists), "nyu_mat" (nyu_depth_v2_labeled.mat and splits.mat) or "kitti" (raw_data,
            data_depth_annotated and the lists of Eigen's split)
        train_list: (nyu, kitti) list of the training images; none for the first existing file with a common name
        val_list: (nyu, kitti) list of the validation images; none as for ``train_list``
        val_selection: (kitti) validate on val_selection_cropped instead of a list
        depth_scale: divisor of stored numbers, integers and floats; none means 256 for kitti, 1000 (millimeters) for
            other integers, and 1 (meters) for floats
        depth_kind: meaning of the divided numbers: "depth" in meters, "inverse" depth in 1/m, or "disparity" in pixels
        focal_baseline: (disparity) focal length in pixels times baseline in meters, which converts disparity to depth
        sky: (layout lists) folder of sky masks, one per image with the same name. No sensor measures the sky, and a
            model that is not trained on the sky predicts arbitrary depth there. With masks, the sky is trained to be as
            far away as the model can predict, and is not scored; none if there are no masks
        sky_class: mask value of the sky, for example 13; if none, every value above 0 is sky
    """

    layout: Literal["lists", "nyu", "nyu_mat", "kitti"] = "lists"
    train_list: str | None = None
    val_list: str | None = None
    val_selection: bool = False
    depth_scale: Annotated[float, Range(SMALLEST_SCALE, LARGEST_SCALE)] | None = None
    depth_kind: DepthKind = "depth"
    focal_baseline: Annotated[float, Range(0, 1e9, above=True)] | None = None
    sky: str | None = None
    sky_class: Annotated[int, Range(0, 65535)] | None = None

    task: ClassVar[str] = "depth"
    shard_keys: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("layout", *_LIST_KEYS),
        "val": ("layout", *_LIST_KEYS, "val_selection"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._read_val(val_list=self.val_list, val_selection=self.val_selection)
        self.check_defaults_unless(("lists",), *self.list_keys, *_LIST_KEYS)
        self.check_defaults_unless(("nyu", "kitti"), "train_list", "val_list")
        self.check_defaults_unless(("kitti",), "val_selection")
        if self.val_selection and self.val_list is not None:
            raise InputError(f"data.val_list is {self.val_list} and data.val_selection is true: omit one of them")
        if self.depth_kind == "disparity" and self.focal_baseline is None:
            raise InputError(
                "data.depth_kind is disparity: set data.focal_baseline, the focal length in pixels times the baseline "
                "in meters"
            )
        if self.depth_kind != "disparity" and self.focal_baseline is not None:
            raise InputError(
                f"data.focal_baseline is {self.focal_baseline}, but data.depth_kind is {self.depth_kind}: omit "
                "data.focal_baseline, or choose disparity"
            )
        if self.sky is None and self.sky_class is not None:
            raise InputError(
                f"data.sky_class is {self.sky_class}, but data.sky is none: set data.sky to the folder of masks"
            )

    @property
    def stored_depth_scale(self) -> float:
        """The divisor of stored integer depth."""
        if self.depth_scale is not None and self.depth_kind == "depth":
            return self.depth_scale
        return kitti.DEPTH_SCALE if self.layout == "kitti" else nyu.DEPTH_SCALE

    def parts(self, split: Split) -> Openers:
        """The parts of a split, which are opened one by one."""
        return self.with_shards(split, lambda: self.reading_images(self._in_folders(split)))

    def _in_folders(self, split: Split) -> Openers:
        list_file = self.train_list if split == "train" else self.val_list
        if self.layout == "nyu":
            return {split: lambda: nyu.NyuDepth(self.folder(), split, list_file=list_file)}
        if self.layout == "nyu_mat":
            return {split: lambda: nyu.NyuMat(self.folder(), split)}
        if self.layout == "kitti" and split == "val" and self.val_selection:
            return {"val_selection": lambda: kitti.KittiSelection(self.folder())}
        if self.layout == "kitti":
            return {split: lambda: kitti.KittiEigen(self.folder(), split, list_file=list_file)}
        return {split: lambda: self._lists(split)}

    def _lists(self, split: Split) -> SampleDataset:
        encoding = DepthEncoding(depth_scale=self.depth_scale, kind=self.depth_kind, focal_baseline=self.focal_baseline)
        pairs = DepthPairs(find_pairs(self.folder(), *self.names(split)), encoding)
        return pairs if self.sky is None else with_sky(pairs, self.folder() / self.sky, self.sky_class)


@dataclass(frozen=True, kw_only=True)
class DepthAugment:
    """The released depth augmentation.

    Attributes:
        crop_size: (height, width) of the crop; smaller images are then padded, with gray pixels and depth 0
        cutdepth: on every 4th sample, draw a strip of the depth into the image: "released" wraps depth like the
            released code, "scaled" does not; none turns it off
        flip: probability of mirroring
        color: whether to change brightness, contrast, gamma, hue, saturation and value
    """

    crop_size: tuple[Side, Side]
    cutdepth: Literal["released", "scaled"] | None = None
    flip: Probability = 0.5
    color: bool = True

    def __post_init__(self) -> None:
        check_ranges(self, "augment")

    def keeps_images(self, data: DepthData) -> bool:
        """Whether an image is the same in every epoch, except for mirroring."""
        return self.crop_size == data.image_size and not self.color and self.cutdepth is None

    def transforms(self, data: DepthData, max_depth_m: float) -> list[Transform]:
        """The training transforms, in order."""
        cut: list[Transform] = []
        if self.cutdepth is not None:
            strip = CutDepth(self.cutdepth, max_depth_m=max_depth_m, depth_scale=data.stored_depth_scale)
            cut = [EveryNth(strip, _CUT_EVERY)]
        return [
            *data.scale((1.0, 1.0)),
            *cut,
            RandomFlip(self.flip),
            RandomCrop(*self.crop_size),
            *([DepthColor()] if self.color else []),
            Pad(*self.crop_size),
        ]
