"""The two splits of a recipe, as loaders."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from metaprompts.data.augmented import Transformed, quiet_opencv
from metaprompts.data.pose import People
from metaprompts.data.samples import SampleDataset
from metaprompts.data.skipping import Skipping
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.recipe import Recipe
from metaprompts.tasks import Depth, Pose, Segmentation


@dataclass(frozen=True)
class Split:
    """A split and how to see it.

    Attributes:
        samples: what is read
        transforms: what is done to each sample
        facts: what the task's scorer needs to know
    """

    samples: SampleDataset
    transforms: list[Transform]
    facts: dict[str, Any]


def training_split(recipe: Recipe) -> Split:
    """The training split with the recipe's augmentation.

    What the test section does to a picture first, KITTI's benchmark crop, is done here, too: augmentation cuts its
    crops out of what is left (released code).
    """
    task, data, augment = recipe.task, recipe.data, recipe.augment
    samples = samples_of(recipe, "train")
    if isinstance(task, Segmentation):
        transforms = augment.transforms(data)
    elif isinstance(task, Depth):
        transforms = [*recipe.test.transforms(), *augment.transforms(data, task.max_depth_m)]
    else:
        assert isinstance(task, Pose)
        transforms = augment.transforms((task.crop_height, task.crop_width), task.joints, task.padding)
    return Split(Skipping(samples, data.skip_at_most) if data.on_error == "skip" else samples, transforms, {})


def validation_split(recipe: Recipe) -> Split:
    """The validation split, seen plainly."""
    task, samples = recipe.task, samples_of(recipe, "val")
    if not isinstance(task, Pose):
        return Split(samples, recipe.data.val_transforms(), {})
    assert isinstance(samples, People)
    crop = PoseCrop(task.crop_height, task.crop_width, task.joints, padding=task.padding)
    return Split(samples, [crop], {"annotations": samples.annotation_path})


def samples_of(recipe: Recipe, split: Literal["train", "val"]) -> SampleDataset:
    """The samples of a split as they are stored.

    Raises:
        InputError: the data are missing, or not of the recipe's classes or joints
    """
    task = recipe.task
    samples: SampleDataset = recipe.data.dataset(
        split, *((len(task.classes),) if isinstance(task, Segmentation) else ())
    )
    if isinstance(task, Pose):
        assert isinstance(samples, People)
        samples.refuse_other_joints(task.joints)
    return samples


class EndlessBatches:
    """Batches of the training split without end: every epoch is shuffled anew, and the seed decides how.

    Args:
        split: what to read
        recipe: batch size, seed and workers

    Raises:
        InputError: the split is smaller than a batch
    """

    def __init__(self, split: Split, recipe: Recipe) -> None:
        self._size = size = recipe.training.batch_size
        if len(split.samples) < size:
            raise InputError(f"{len(split.samples)} training pictures are fewer than training.batch_size {size}")
        self._dataset = Transformed(split.samples, split.transforms, seed=recipe.training.seed)
        self._order = _Order(len(self._dataset), recipe.training.seed)
        self._loader = DataLoader(
            self._dataset,
            batch_size=size,
            sampler=self._order,
            drop_last=True,
            num_workers=recipe.data.workers,
            persistent_workers=recipe.data.workers > 0,
            worker_init_fn=quiet_opencv,
            # One of its own: what a loader draws must not depend on how often the training was stopped.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order) // self._size

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield batches, epoch after epoch."""
        return self.after(0)

    def after(self, batches: int) -> Iterator[dict[str, Tensor]]:
        """Yield what comes after so many batches; nothing is read of those."""
        epoch, passed = divmod(batches, len(self))
        while True:
            self._dataset.set_epoch(epoch)
            self._order.begin(epoch, passed * self._size)
            yield from self._loader
            epoch, passed = epoch + 1, 0

    def files(self, batch: int) -> list[str]:
        """The pictures that a batch was made of, 0 being the first of all; they are read anew."""
        epoch, number = divmod(batch, len(self))
        places = self._order.of_epoch(epoch)[number * self._size : (number + 1) * self._size]
        return [self._dataset.dataset[place].path for place in places]


class _Order(Sampler[int]):
    """The order of an epoch, or what is left of it; the seed decides."""

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self.begin(0, 0)

    def begin(self, epoch: int, passed: int) -> None:
        """Choose the epoch, and how many samples of it are over."""
        self._epoch = epoch
        self._passed = passed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(self.of_epoch(self._epoch)[self._passed :])

    def of_epoch(self, epoch: int) -> list[int]:
        """The whole order of an epoch."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        places: list[int] = torch.randperm(self._count, generator=generator).tolist()
        return places


def validation_batches(split: Split, recipe: Recipe) -> DataLoader[dict[str, Tensor]]:
    """The validation split in order."""
    return DataLoader(
        Transformed(split.samples, split.transforms, seed=0),
        batch_size=recipe.training.val_batch_size,
        num_workers=recipe.data.workers,
        worker_init_fn=quiet_opencv,
    )
