"""What the data sections of all tasks have."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from metaprompts.data.joined import Joined
from metaprompts.data.samples import SampleDataset
from metaprompts.data.transforms.geometric import RandomResize, RandomScale
from metaprompts.data.transforms.resize_image import ResizeImage
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError

Split = Literal["train", "val"]
Openers = dict[str, Callable[[], SampleDataset]]
"""The parts of a split by name; each is looked for only when it is called."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What every data section has.

    Attributes:
        root: folder that everything is relative to
        workers: processes that read and transform
        prefetch: batches that each of them has ready in training
        on_error: what to do with a training sample that cannot be read: "stop" the training, or "skip" it and take the
            next; validation always stops
        skip_at_most: with "skip": how many samples may be bad before it stops all the same
    """

    root: Path | None = None
    workers: int = 0
    prefetch: int = 2
    on_error: Literal["stop", "skip"] = "stop"
    skip_at_most: int = 100

    def __post_init__(self) -> None:
        if self.skip_at_most < 0:
            raise InputError(f"data.skip_at_most is {self.skip_at_most}; wanted 0 or more")
        if self.workers < 0:
            raise InputError(f"data.workers is {self.workers}; wanted 0 or more")
        if self.prefetch < 1:
            raise InputError(f"data.prefetch is {self.prefetch}; wanted at least 1")

    def size_of_prediction(self) -> tuple[int, int] | None:
        """(height, width) whose area a trained model brings pictures to; none for their own."""
        return None

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

    def refuse_unless(self, layouts: tuple[str, ...], *names: str) -> None:
        """Keys that say nothing to a layout must have their defaults, or a wish would be passed over."""
        layout = getattr(self, "layout", "")
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if layout not in layouts and getattr(self, name) != defaults[name]:
                raise InputError(
                    f"data.{name} is {getattr(self, name)}, but data.layout is {layout!r}: "
                    f"leave it out, or choose layout {' or '.join(layouts)}"
                )


@dataclass(frozen=True, kw_only=True)
class PairedSection(Section):
    """Pictures with a label file each, by list file or by folders.

    Attributes:
        train: list file of ``image label`` lines, or folder of pictures
        train_labels: folder of labels, where ``train`` is a folder
        val: as ``train``
        val_labels: as ``train_labels``
        image_size: (height, width) to which pictures are brought; none for their own
        keep_aspect: whether pictures keep their shape: then the sides of ``image_size`` are only upper bounds
        working_size: (height, width) whose area the trained model brings pictures of its own to, goes into its
            config.json; none for ``image_size``
    """

    train: str = "train.txt"
    train_labels: str | None = None
    val: str = "val.txt"
    val_labels: str | None = None
    image_size: tuple[int, int] | None = None
    keep_aspect: bool = True
    working_size: tuple[int, int] | None = None

    list_keys: ClassVar[tuple[str, ...]] = ("train", "train_labels", "val", "val_labels")

    def names(self, split: Split) -> tuple[str, str | None]:
        """List file, or folders of pictures and labels, of a split."""
        return (self.train, self.train_labels) if split == "train" else (self.val, self.val_labels)

    def size_of_prediction(self) -> tuple[int, int] | None:
        """(height, width) whose area a trained model brings pictures to; none for their own."""
        return self.working_size or self.image_size

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


def joined(parts: Openers) -> SampleDataset:
    """Open all parts of a split and put them one after the other."""
    opened = [part() for part in parts.values()]
    return opened[0] if len(opened) == 1 else Joined(opened)
