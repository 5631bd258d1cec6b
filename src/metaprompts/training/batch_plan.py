"""Split the images of a step over processes and passes, and into loss groups."""

from dataclasses import dataclass
from typing import Self

from metaprompts.errors import InputError
from metaprompts.recipes.recipe import Recipe
from metaprompts.utils.wording import counted


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How one step is split.

    Consecutive images are in one process, in one pass, and share one loss. The result of a step depends only on the
    loss groups, which do not depend on the number of processes if the recipe fixes their size.

    Attributes:
        batch: images per step
        processes: number of processes that share a step
        micro_batch: images per forward and backward pass
        loss_batch: images that share a loss
        fitted: description of changes to the recipe's values; empty if there are none
    """

    batch: int
    processes: int = 1
    micro_batch: int
    loss_batch: int
    fitted: str = ""

    @classmethod
    def of(
        cls, batch: int, *, processes: int, micro_batch: int | None, loss_batch: int | None, fits: bool = False
    ) -> Self:
        """Split a step according to a recipe's training section.

        Args:
            batch: training.batch_size
            processes: number of processes
            micro_batch: training.micro_batch_size
            loss_batch: training.loss_group_size
            fits: training.fit_processes: instead of raising an error, use the next larger batch that processes can
                share, and the largest group that fits in a pass

        Raises:
            InputError: the numbers do not divide evenly
        """
        changes = []
        if fits and batch % processes:
            given, batch = batch, -(-batch // processes) * processes
            changes.append(f"training.batch_size {batch} instead of {given}")
        if batch % processes:
            raise InputError(
                f"training.batch_size {batch} cannot be split over {processes} processes: choose a multiple of "
                f"{processes}, or a different number of processes"
            )
        share = batch // processes
        micro_batch = min(micro_batch or share, share)
        if share % micro_batch:
            raise InputError(
                f"each of {processes} processes has {share} images per step, not a multiple of "
                f"training.micro_batch_size {micro_batch}: choose a divisor of {share}"
            )
        group = min(loss_batch or micro_batch, batch)
        if fits and micro_batch != batch and micro_batch % group:
            given, group = group, max(size for size in range(1, min(group, micro_batch) + 1) if micro_batch % size == 0)
            changes.append(f"training.loss_group_size {group} instead of {given}")
        if micro_batch != batch and micro_batch % group:
            raise InputError(
                f"training.loss_group_size is {group}, but a pass has {micro_batch} of the step's {batch} images: a "
                f"pass must hold whole groups, so choose a divisor of {micro_batch}, or larger passes"
            )
        return cls(
            batch=batch, processes=processes, micro_batch=micro_batch, loss_batch=group, fitted=" and ".join(changes)
        )

    @property
    def share(self) -> int:
        """Number of images per step in one process."""
        return self.batch // self.processes

    @property
    def passes(self) -> int:
        """Number of passes per step in one process."""
        return self.share // self.micro_batch

    def __str__(self) -> str:
        """The plan as one line."""
        of = counted(self.processes, "process", "processes")
        fitted = f" (fitted: {self.fitted})" if self.fitted else ""
        passes = f"{of} x {counted(self.passes, 'pass', 'passes')} x {self.micro_batch}"
        return f"a step: {counted(self.batch, 'image')} = {passes}; {self.loss_batch} share a loss{fitted}"


def batch_plan(recipe: Recipe, processes: int) -> BatchPlan:
    """Split a recipe's step over processes.

    Raises:
        InputError: the numbers do not divide evenly, or a pass is too small for batch norm
    """
    settings = recipe.training
    split = BatchPlan.of(
        settings.batch_size,
        processes=processes,
        micro_batch=settings.micro_batch_size,
        loss_batch=settings.loss_group_size,
        fits=settings.fit_processes,
    )
    seen = split.micro_batch * (processes if settings.batch_norm == "sync" else 1)
    if settings.batch_norm != "frozen" and seen < (needed := recipe.task.smallest_pass):
        raise InputError(
            f"a pass has 1 image, and {recipe.task.name}'s batch norm needs at least {needed}: choose a larger "
            "training.micro_batch_size, fewer processes, or training.batch_norm frozen"
        )
    return split
