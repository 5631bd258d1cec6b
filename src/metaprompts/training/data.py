"""The two splits of a recipe, as loaders."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from metaprompts.data.augmented import Transformed, quiet_opencv
from metaprompts.data.pose import CocoKeypoints
from metaprompts.data.samples import SampleDataset
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
    if isinstance(task, Segmentation):
        return Split(data.dataset("train", len(task.classes)), augment.transforms(data), {})
    if isinstance(task, Depth):
        first = recipe.test.transforms()
        return Split(data.dataset("train"), [*first, *augment.transforms(data, task.max_depth_m)], {})
    assert isinstance(task, Pose)
    people = _people(recipe, "train")
    return Split(people, augment.transforms((task.crop_height, task.crop_width), task.joints, task.padding), {})


def validation_split(recipe: Recipe) -> Split:
    """The validation split, seen plainly."""
    task, data = recipe.task, recipe.data
    if isinstance(task, Segmentation):
        return Split(data.dataset("val", len(task.classes)), data.val_transforms(), {})
    if isinstance(task, Depth):
        return Split(data.dataset("val"), data.val_transforms(), {})
    assert isinstance(task, Pose)
    people = _people(recipe, "val")
    crop = PoseCrop(task.crop_height, task.crop_width, task.joints, padding=task.padding)
    return Split(people, [crop], {"annotations": people.annotation_path})


def _people(recipe: Recipe, split: Any) -> CocoKeypoints:
    people: CocoKeypoints = recipe.data.dataset(split)
    assert isinstance(recipe.task, Pose)
    people.refuse_other_joints(recipe.task.joints)
    return people


class EndlessBatches:
    """Batches of the training split without end: every epoch is shuffled anew, and the seed decides how.

    Args:
        split: what to read
        recipe: batch size, seed and workers

    Raises:
        InputError: the split is smaller than a batch
    """

    def __init__(self, split: Split, recipe: Recipe) -> None:
        size = recipe.training.batch_size
        if len(split.samples) < size:
            raise InputError(f"{len(split.samples)} training pictures are fewer than training.batch_size {size}")
        self._dataset = Transformed(split.samples, split.transforms, seed=recipe.training.seed)
        self._order = torch.Generator()
        self._seed = recipe.training.seed
        self._loader = DataLoader(
            self._dataset,
            batch_size=size,
            sampler=RandomSampler(self._dataset, generator=self._order),
            drop_last=True,
            num_workers=recipe.data.workers,
            persistent_workers=recipe.data.workers > 0,
            worker_init_fn=quiet_opencv,
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield batches, epoch after epoch."""
        epoch = 0
        while True:
            self._dataset.set_epoch(epoch)
            self._order.manual_seed(self._seed * 1_000_003 + epoch)
            yield from self._loader
            epoch += 1


def validation_batches(split: Split, recipe: Recipe) -> DataLoader[dict[str, Tensor]]:
    """The validation split in order."""
    return DataLoader(
        Transformed(split.samples, split.transforms, seed=0),
        batch_size=recipe.training.val_batch_size,
        num_workers=recipe.data.workers,
        worker_init_fn=quiet_opencv,
    )
