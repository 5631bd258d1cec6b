"""Data loaders for the two splits of a recipe."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Sampler, default_collate

from metaprompts.data.config.base import joined
from metaprompts.data.datasets.held_out import hold_out, image_names, subset
from metaprompts.data.datasets.transformed import Transformed
from metaprompts.data.datasets.views import Captioned, SkipBadSamples
from metaprompts.data.loading import Reader, ShapeBatches
from metaprompts.data.sample import SampleDataset
from metaprompts.data.shards.index import read_index
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.evaluation.dataset import in_groups
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.batch_plan import BatchPlan
from metaprompts.utils.device import pick_device
from metaprompts.utils.distributed_env import local_device

HELD_OUT_BY = "held_out_by_seed"
"""The key in the shards for the seed that chose the held-out validation split."""


@dataclass(frozen=True)
class Split:
    """A split and its transforms.

    Attributes:
        samples: the data set to read
        transforms: the transforms of each sample
        metric_kwargs: arguments of the task's metric
        stored: the stored samples; captions are not added, and bad samples are not skipped
    """

    samples: SampleDataset
    transforms: list[Transform]
    metric_kwargs: dict[str, Any]
    stored: SampleDataset


def training_split(recipe: Recipe) -> Split:
    """The training split with the recipe's augmentation."""
    data = recipe.data
    samples = samples_of(recipe, "train")
    transforms = recipe.task.training_transforms(data, recipe.augment, recipe.test)
    skips = data.on_error == "skip"
    captioned = _captioned(recipe, samples, "train", tolerant=skips)
    return Split(SkipBadSamples(captioned, data.max_bad_samples) if skips else captioned, transforms, {}, samples)


def validation_split(recipe: Recipe) -> Split:
    """The validation split, without augmentation."""
    task, samples = recipe.task, samples_of(recipe, "val")
    captioned = _captioned(recipe, samples, "val", tolerant=False)
    metric_kwargs = task.metric_kwargs(samples, recipe.data, recipe.test)
    return Split(captioned, task.validation_transforms(recipe.data), metric_kwargs, samples)


def samples_of(recipe: Recipe, split: Literal["train", "val"]) -> SampleDataset:
    """The stored samples of a split.

    Raises:
        InputError: the data is missing, its classes or joints differ from the recipe's, or there is no validation
    """
    task, data = recipe.task, recipe.data
    if split == "val" and not data.validates:
        raise InputError(
            "data.val is none, so there is no validation split: pass --data.val LIST, or a fraction of the training "
            "images "
            "such as --data.val 0.1"
        )
    is_held_out = data.val_share is not None and not _shards_hold_out(recipe)
    source: Literal["train", "val"] = "train" if is_held_out else split
    samples = joined(task.parts(data, source))
    if is_held_out:
        paths = map(samples.path, range(len(samples)))
        kept, held = hold_out(paths, data.val_share, recipe.training.seed, data.names_from("train"), data.held_out)
        samples = subset(samples, kept if split == "train" else held)
    return samples


def with_held_out(recipe: Recipe, validation: Split | None) -> Recipe:
    """The recipe with the held-out images listed, to hold out the same images again."""
    if validation is None or recipe.data.val_share is None:
        return recipe
    names = image_names(validation.stored, recipe.data.names_from("val"))
    return replace(recipe, data=replace(recipe.data, held_out=names))


def describe_validation(recipe: Recipe, splits: Mapping[str, Split]) -> str | None:
    """Describe the source of the validation images, unless it is a separate split.

    Args:
        recipe: recipe of the run
        splits: "training" and, if it exists, "validation"
    """
    if not recipe.data.validates:
        return "no validation: data.val is none, so last/ has the weights of the last step, and best/ is not written"
    if recipe.data.val_share is None:
        return None
    stored = (splits[name].stored for name in ("validation", "training"))
    held, kept = (len({samples.path(index) for index in range(len(samples))}) for samples in stored)
    return (
        f"data.val {recipe.data.val_share:g}: {held} of {held + kept} training images are held out for validation, "
        f"chosen by training.seed {recipe.training.seed}"
    )


def _shards_hold_out(recipe: Recipe) -> bool:
    """Whether the recipe's shards were written with the same share held out, in which case nothing is held out again.

    Raises:
        InputError: the shards were written with a different fraction or seed
    """
    data, seed = recipe.data, recipe.training.seed
    origin = {} if data.shards is None else read_index(data.shards).origin.data
    if not isinstance(origin.get("val"), float):
        return False
    made = origin["val"], origin.get(HELD_OUT_BY)
    if made != (data.val_share, seed):
        raise InputError(
            f"the shards in {data.shards} were made with data.val {made[0]:g} and training.seed {made[1]}, but the "
            f"recipe has {data.val_share:g} and {seed}: use the same values, or write new shards"
        )
    return True


def _captioned(
    recipe: Recipe, samples: SampleDataset, split: Literal["train", "val"], *, tolerant: bool
) -> SampleDataset:
    if recipe.prompts.kind != "caption":
        # Do not read the index of the shards unnecessarily.
        return samples
    return with_contexts(recipe, samples, recipe.data.names_from(split), tolerant=tolerant)


def with_contexts(recipe: Recipe, samples: SampleDataset, root: Path, *, tolerant: bool = False) -> SampleDataset:
    """The samples with the encoded captions of their images, if the recipe's prompts are captions.

    Args:
        recipe: the recipe, which gives the sources of captions and text encoder
        samples: samples of a split
        root: folder that names in a caption file are relative to
        tolerant: whether to ignore images without a caption until they are read

    Raises:
        InputError: there are no captions, or no captioner or text encoder
    """
    if recipe.prompts.kind != "caption":
        return samples
    # Imported here: only captions need transformers.
    from metaprompts.captioning.caption_tokens import prepare_contexts

    prompts = replace(recipe.prompts, text_source=recipe.prompts.text_source or recipe.backbone.source)
    device = pick_device(local_device(recipe.training.device))
    contexts = prepare_contexts(samples, prompts, recipe.data, root, device, tolerant=tolerant)
    return Captioned(samples, contexts)


class InfiniteDataLoader:
    """Endless batches of the training split: every epoch is reshuffled, determined by the seed.

    Args:
        split: the split to read
        recipe: batch size, seed and workers
        step: how a batch is split; None for one process and one pass
        rank: the process whose images to yield

    Raises:
        InputError: the split is smaller than a batch
    """

    def __init__(self, split: Split, recipe: Recipe, step: BatchPlan | None = None, rank: int = 0) -> None:
        size = recipe.training.batch_size
        self._step = step or BatchPlan(batch=size, micro_batch=size, loss_batch=size)
        if len(split.samples) < self._step.batch:
            raise InputError(
                f"{len(split.samples)} training images are fewer than training.batch_size {self._step.batch}"
            )
        self._dataset = Transformed(split.samples, split.transforms, seed=recipe.training.seed)
        self._order = _Order(len(self._dataset), recipe.training.seed, self._step, rank)
        workers = recipe.data.num_workers
        self._reader: Reader[dict[str, Tensor]] = Reader(
            self._dataset,
            default_collate,
            workers=workers,
            batch_size=self._step.micro_batch,
            sampler=self._order,
            persistent_workers=workers > 0,
            prefetch_factor=recipe.data.prefetch if workers > 0 else None,
            # Pinned memory, which a GPU copies asynchronously.
            pin_memory=torch.cuda.is_available() and recipe.training.device != "cpu",
            # A separate generator, so that random numbers do not depend on how often the run was stopped.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return self._order.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield this process's passes, epoch after epoch; if batches are not split, a pass is a batch."""
        return self._passes(0)

    def after(self, batches: int) -> Iterator[list[dict[str, Tensor]]]:
        """Skip the first ``batches`` batches without loading them, then yield the passes of each batch."""
        passes = self._passes(batches)
        while True:
            yield list(islice(passes, self._step.passes))

    def _passes(self, batches: int) -> Iterator[dict[str, Tensor]]:
        epoch, over = divmod(batches, len(self))
        while True:
            self._dataset.set_epoch(epoch)
            self._order.begin(epoch, over)
            yield from self._reader
            epoch, over = epoch + 1, 0

    def files(self, batch: int) -> list[str]:
        """The files of this process's images in a batch, counted from 0; reads the images again."""
        epoch, number = divmod(batch, len(self))
        return [self._dataset.dataset[place].path for place in self._order.batches(epoch)[number]]


class _Order(Sampler[int]):
    """Sampler of one process's share of the rest of an epoch, determined by the seed."""

    def __init__(self, count: int, seed: int, step: BatchPlan, rank: int) -> None:
        self._count, self._seed, self._step, self._rank = count, seed, step, rank
        self.steps = count // step.batch
        self.begin(0, 0)

    def begin(self, epoch: int, over: int) -> None:
        """Set the epoch, and how many of its batches are already done."""
        self._epoch, self._over = epoch, over

    def __len__(self) -> int:
        return self.steps * self._step.share

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.batches(self._epoch)[self._over :])

    def batches(self, epoch: int) -> list[list[int]]:
        """The indices of this process in each batch of an epoch."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        order = torch.randperm(self._count, generator=generator).tolist()
        step, first = self._step, self._rank * self._step.share
        return [order[at : at + step.share] for at in range(first, self.steps * step.batch, step.batch)]


def validation_batches(split: Split, recipe: Recipe, groups: Sequence[list[int]] | None = None) -> ShapeBatches:
    """The validation split in order, or some of its groups of ``val_batch_size``; a batch's images have one size."""
    images = Transformed(split.samples, split.transforms, seed=0)
    groups = in_groups(len(images), recipe.training.val_batch_size) if groups is None else groups
    return ShapeBatches(Reader(images, list, workers=recipe.data.num_workers, batch_sampler=groups))
