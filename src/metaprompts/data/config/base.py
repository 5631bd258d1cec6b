"""The common keys of all tasks' data sections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from metaprompts.data.class_names import describe_difference
from metaprompts.data.datasets.views import ConcatSamples
from metaprompts.data.io.decoding import ExifRule, ImageReading, ReadsImages
from metaprompts.data.io.file_search import check_outside
from metaprompts.data.layouts.folders import OFFICIAL
from metaprompts.data.sample import SMALLEST_SIDE, SampleDataset, Split
from metaprompts.data.shards.dataset import open_shards
from metaprompts.data.shards.index import HAS_CONFIDENCE, LABELED_BY, ShardIndex, read_index
from metaprompts.data.transforms.geometric import RandomResize, ResizeImage
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.utils.files import is_file
from metaprompts.utils.schema import Range, check_ranges, to_dict

Openers = dict[str, Callable[[], SampleDataset]]
"""The parts of a split: name -> function that searches for the part and opens it."""

Probability = Annotated[float, Range(0, 1)]
Factor = Annotated[float, Range(0, 100, above=True)]
Share = Annotated[float, Range(0, 1, above=True, below=True)]
Side = Annotated[int, Range(1, 65536)]
"""Height and width of an image, in pixels."""

_Side = Annotated[int, Range(SMALLEST_SIDE, 65536)]


@dataclass(frozen=True, kw_only=True)
class Section:
    """The common data section.

    Attributes:
        root: folder that all paths are relative to
        shards: folder written by metaprompts data shard, whose splits replace those in root; keys for files and folders
            then have no effect. On the command line, --data.root without --data.shards unsets it
        num_workers: processes that read and transform samples
        prefetch: batches that each process prefetches during training
        on_error: what to do if a training sample is unreadable or lacks a required caption: "stop" the run, or "skip"
            to the next sample; bad validation samples always stop the run
        max_bad_samples: with "skip", the number of bad samples above which the run stops
        exif: EXIF orientation of images: "check" applies it if the size of labels or annotations shows that they belong
            to the upright image, and otherwise raises an error; "apply" always applies it, "ignore" never does
        white_level: value of white in images with more than 8 bits, for example 4095 for 12 bits; none for 65535
        captions: JSON file of images and captions, relative to root; read if prompts.kind is caption
        captioner: instead of captions, a captioning model: hub id or folder, for example Salesforce/blip2-opt-2.7b
        cache: cache folder for captions and their encodings; none for $METAPROMPTS_CACHE, or ~/.cache/metaprompts if
            that is not set
        held_out: names, relative to root, of the images held out by a fraction in data.val. A run writes them into its
            recipe.json, so that the same images can be held out again; none to draw them at random
        min_confidence: with shards of metaprompts label: pixels and joints below this confidence are not trained on;
            images left without labels are dropped
    """

    root: Path | None = None
    shards: Path | None = None
    num_workers: Annotated[int, Range(0, 1024)] = 0
    prefetch: Annotated[int, Range(1, 1024)] = 2
    on_error: Literal["stop", "skip"] = "stop"
    max_bad_samples: Annotated[int, Range(0, 10**9)] = 100
    exif: ExifRule = "check"
    white_level: Annotated[int, Range(1, 65535)] | None = None
    captions: str | None = None
    captioner: str | None = None
    cache: Path | None = None
    held_out: tuple[str, ...] | None = None
    min_confidence: Annotated[float, Range(0, 1)] | None = None

    task: ClassVar[str]
    # Shards must have been made with the same values of these keys, which determine a split's content and are not
    # stored in its files.
    shard_keys: ClassVar[dict[Split, tuple[str, ...]]] = {"train": (), "val": ()}
    # Keys that affect how samples are read and checked, but not the samples themselves.
    reading_keys: ClassVar[tuple[str, ...]] = (
        *("shards", "num_workers", "on_error", "max_bad_samples"),
        *("captions", "captioner", "cache", "min_confidence"),
    )

    def __post_init__(self) -> None:
        check_ranges(self, "data")
        if self.captions is not None and self.captioner is not None:
            raise InputError(
                f"data.captions is {self.captions}, data.captioner {self.captioner}: set one of them to none"
            )

    def size_of_prediction(self) -> tuple[int, int] | None:
        """(height, width); a trained model resizes images to this area. None keeps the images' own size."""
        return None

    @property
    def val_share(self) -> float | None:
        """The fraction of the training images held out for validation; None if ``val`` names a split."""
        value = getattr(self, "val", None)
        return value if isinstance(value, float) else None

    @property
    def validates(self) -> bool:
        """Whether the recipe has a validation split."""
        return getattr(self, "val", "") is not None

    def _read_val(self, **unused: Any) -> None:
        """Parse ``val``, which is a fraction or a name; a fraction rules out ``unused`` keys."""
        value = getattr(self, "val", None)
        share = _number(value)
        if share is not None and 0 < share < 1:
            object.__setattr__(self, "val", share)
        elif share is not None and not (self.root is not None and (self.root / str(value)).exists()):
            raise InputError(
                f"data.val is {value}; expected a list or folder, a fraction of the training images between 0 and 1 "
                "such as 0.1, or none to train without validation"
            )
        if self.held_out is not None and self.val_share is None:
            raise InputError(
                f"data.held_out names {len(self.held_out)} images, but data.val is not a fraction of the training "
                "images: pass --data.held_out none"
            )
        if isinstance(getattr(self, "val", None), str):
            return
        for name, given in unused.items():
            if given:
                shown = "none" if not self.validates else f"{self.val_share:g}, a fraction of the training images"
                off = "false" if given is True else "none"
                raise InputError(f"data.{name} is {given}, but data.val is {shown}: pass --data.{name} {off}")

    def _list_name(self, val: str | float | None) -> str:
        """The name of the validation list; raises an error if ``val`` is none or a fraction."""
        if not isinstance(val, str):
            raise InputError(f"data.val is {'none' if val is None else val}, so this split has no list")
        return val

    @property
    def reading(self) -> ImageReading:
        """Settings for reading image files."""
        return ImageReading(exif=self.exif, white_level=self.white_level)

    def reading_images(self, parts: Openers) -> Openers:
        """The parts of a split, with image files read according to this section."""

        def opened(open_part: Callable[[], SampleDataset]) -> SampleDataset:
            samples = open_part()
            if isinstance(samples, ReadsImages):
                samples.reading = self.reading
            return samples

        return {name: partial(opened, open_part) for name, open_part in parts.items()}

    def folder(self) -> Path:
        """The root folder.

        Raises:
            InputError: the root is not given, or not a folder
        """
        if self.root is None:
            note = "" if self.shards is None else f", and {self.shards} does not hold this split"
            raise InputError(f"data.root is not set{note}: pass --data.root DIR, the folder of the images")
        if not self.root.is_dir():
            raise InputError(f"data.root {self.root} is not a folder: give the folder of the images")
        return self.root

    def searched_folders(self) -> list[Path]:
        """Folders that are searched for images and labels."""
        return []

    def unlabeled(self) -> dict[str, str]:
        """Folders of images without published labels: part -> folder."""
        return {}

    def official(self) -> dict[str, int]:
        """Number of samples in the published data set: part -> number; empty if it is not known by name."""
        return OFFICIAL.get(getattr(self, "layout", ""), {})

    def check_output(self, out: Path) -> None:
        """Check that the output folder is not searched for data.

        Raises:
            InputError: the output folder lies in a searched folder
        """
        for folder in () if self.root is None or self.shards is not None else self.searched_folders():
            check_outside(out, folder)

    def names_from(self, split: Split) -> Path:
        """Folder that a split's paths are relative to: the root, or the source folder of its shards.

        Raises:
            InputError: the shards are missing, or data.root is not set or not a folder
        """
        index = self._shard_index(split)
        if index is None and self.val_share is not None:
            # The held-out images come from the training split.
            index = self._shard_index("train")
        return self.folder() if index is None else index.origin.root

    def caption_file(self) -> Path:
        """The caption file.

        Raises:
            InputError: the file is not given, or does not exist
        """
        if self.captions is None:
            raise InputError(
                "prompts.kind is caption, but there are no captions: set data.captions FILE or data.captioner MODEL"
            )
        places = [folder / self.captions for folder in (self.root, self.shards) if folder is not None]
        for path in places or [Path(self.captions)]:
            if is_file(path):
                return path
        raise InputError(
            f"data.captions {' or '.join(map(str, places)) or self.captions} is not a file: check the name"
        )

    def resolved(self) -> Self:
        """A copy with absolute paths, because relative paths depend on the working directory."""
        paths = {name: getattr(self, name) for name in ("root", "shards")}
        return replace(self, **{name: path.resolve() for name, path in paths.items() if path is not None})

    def sample_settings(self) -> dict[str, Any]:
        """The values that determine the samples, as plain data."""
        return {key: value for key, value in to_dict(self).items() if key not in self.reading_keys}

    def sharded(self, split: Split, classes: Sequence[str] | None = None) -> Openers:
        """The part of a split that is stored in shards; empty if the split is read from the root.

        Raises:
            InputError: the shards are missing, or their data differs from the recipe's
        """
        index = self._shard_index(split)
        least = self.min_confidence if split == "train" else None
        if least is not None and (index is None or not index.origin.data.get(HAS_CONFIDENCE)):
            where = "are not in shards"
            if index is not None:
                where = f"are from the shards in {self.shards}, which have no confidence"
            raise InputError(
                f"data.min_confidence is {least:g}, but the training images {where}: give the "
                "data.shards that metaprompts label --format tar wrote, without --no-confidence"
            )
        if index is None or self.shards is None:
            return {}
        self._check_same_settings(index, split, classes)
        folder, checks_files = self.shards, split == "val" or self.on_error == "stop"
        return {split: lambda: open_shards(folder, index, split, checks_files=checks_files, min_confidence=least)}

    def _check_same_settings(self, index: ShardIndex, split: Split, classes: Sequence[str] | None) -> None:
        """Check that shards were made with the same values of all settings that change the samples."""
        own, count = to_dict(self), None if classes is None else len(classes)
        # Predicted labels do not depend on how a data set's files are read.
        keys = () if LABELED_BY in index.origin.data else ("exif", "white_level", *self.shard_keys[split])
        expected = {"task": self.task, "number of classes": count, **{key: own[key] for key in keys}}
        came = {**index.origin.data, "task": index.origin.task, "number of classes": index.origin.classes}
        for name, value in expected.items():
            if came.get(name) != value:
                key = f"data.{name}" if name in own else name
                made, wanted = ("none" if each is None else each for each in (came.get(name), value))
                raise InputError(
                    f"the shards in {self.shards} were made with {key} {made}, but the recipe has {wanted}: use the "
                    "same value, or write new shards"
                )
        names = index.origin.class_names
        if names is not None and classes is not None and names != tuple(classes):
            raise InputError(
                f"the shards in {self.shards} were made with different task.classes "
                f"({describe_difference(names, classes)}): use the same classes, or write new shards"
            )

    def _shard_index(self, split: Split) -> ShardIndex | None:
        """The shard index of a split, if the shards hold it."""
        index = None if self.shards is None else read_index(self.shards)
        return index if index is not None and split in index.splits else None

    def check_defaults_unless(self, layouts: tuple[str, ...], *names: str) -> None:
        """Check that keys unused by a layout have their default values; other values would be silently ignored."""
        layout = getattr(self, "layout", "")
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            # A fraction of the training images, or none, is allowed for any data set.
            is_said = name != "val" or isinstance(getattr(self, name), str)
            if layout not in layouts and is_said and getattr(self, name) != defaults[name]:
                raise InputError(
                    f"data.{name} is {getattr(self, name)}, but data.layout is {layout!r}: "
                    f"omit it, or choose layout {' or '.join(layouts)}"
                )


@dataclass(frozen=True, kw_only=True)
class PairedSection(Section):
    """Images with one label file each, from a list file or from folders.

    Attributes:
        train: list file of ``image label`` lines, or folder of images
        train_labels: folder of labels, if ``train`` is a folder
        val: like ``train``; or a fraction of the training images, for example 0.1, held out by training.seed; none to
            train without validation
        val_labels: like ``train_labels``
        image_size: (height, width) to which images are resized; none to keep their own size
        keep_aspect: whether images keep their aspect ratio; the sides of ``image_size`` are then only upper bounds
        working_size: (height, width); the trained model resizes input images to this area, stored in its config.json;
            none for ``image_size``
        add_shards: train on the images in the shards, labeled by metaprompts label, in addition to those in root
    """

    train: str = "train.txt"
    train_labels: str | None = None
    val: str | Share | None = "val.txt"
    val_labels: str | None = None
    image_size: tuple[_Side, _Side] | None = None
    keep_aspect: bool = True
    working_size: tuple[_Side, _Side] | None = None
    add_shards: bool = False

    list_keys: ClassVar[tuple[str, ...]] = ("train", "train_labels", "val", "val_labels")
    reading_keys = (*Section.reading_keys, "image_size", "keep_aspect", "working_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._read_val(val_labels=self.val_labels)
        if self.add_shards and (self.shards is None or self.val_share is not None):
            lacks = "data.shards is none" if self.shards is None else f"data.val is {self.val_share:g}, a share"
            raise InputError(
                f"data.add_shards is true, but {lacks}: give the data.shards of metaprompts label, and a list or "
                "folder in data.val"
            )

    def with_shards(
        self, split: Split, in_folders: Callable[[], Openers], classes: Sequence[str] | None = None
    ) -> Openers:
        """The parts of a split in the shards, in folders, or with ``add_shards`` in both.

        Raises:
            InputError: the shards are missing, or their data differs from the recipe's
        """
        found = self.sharded(split, classes)
        if self.add_shards and split == "train":
            if not found:
                raise InputError(f"data.add_shards is true, but {self.shards} holds no training images")
            return {**in_folders(), "shards": found[split]}
        return found or in_folders()

    def names(self, split: Split) -> tuple[str, str | None]:
        """The list file, or the folders of images and labels, of a split."""
        return (self.train, self.train_labels) if split == "train" else (self._list_name(self.val), self.val_labels)

    def searched_folders(self) -> list[Path]:
        """The folders of all splits."""
        named = (self.train, self.train_labels, self.val, self.val_labels)
        folders = [self.folder() / name for name in named if isinstance(name, str)]
        return [folder for folder in folders if folder.is_dir()]

    def size_of_prediction(self) -> tuple[int, int] | None:
        """(height, width); a trained model resizes images to this area. None keeps the images' own size."""
        return self.working_size or self.image_size

    def val_transforms(self) -> list[Transform]:
        """Resize only the image: predictions are compared with the labels at the labels' own size."""
        return [ResizeImage(*self.image_size, keeps_aspect=self.keep_aspect)] if self.image_size else []

    def scale(self, ratio: tuple[float, float]) -> list[Transform]:
        """The transform that resizes a training image to ``image_size`` times a random ratio."""
        if self.image_size is None:
            return []
        return [RandomResize(*self.image_size, ratio, keeps_aspect=self.keep_aspect)]


def joined(parts: Openers) -> SampleDataset:
    """Open and concatenate all parts of a split."""
    opened = [part() for part in parts.values()]
    return opened[0] if len(opened) == 1 else ConcatSamples(opened)


def _number(value: Any) -> float | None:
    """A number, or a string parsed as a number; None for other strings."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def check_factor_ranges(**values: tuple[float, float]) -> None:
    """Check that keys of the augment section are pairs of a lowest and a highest factor.

    Raises:
        InputError: the lowest factor is above the highest
    """
    for name, (lowest, highest) in values.items():
        if not lowest <= highest:
            raise InputError(
                f"augment.{name} is {lowest},{highest}; expected LOWEST,HIGHEST with 0 < lowest <= highest"
            )
