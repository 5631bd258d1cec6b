"""Check the depth range before the first step."""

import logging
from collections.abc import Iterable, Iterator

from metaprompts.data.check import spread
from metaprompts.data.datasets.depth_statistics import DepthStatistics
from metaprompts.data.sample import Sample, SampleDataset
from metaprompts.errors import InputError
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks import Depth

logger = logging.getLogger(__name__)

_TRIED = 8


def check_depth_range(recipe: Recipe, *, warns: bool = True, **splits: SampleDataset) -> None:
    """Check that splits have usable depth for training and scoring; no-op for other tasks.

    A few samples of each split are read; unreadable ones are skipped here.

    Args:
        recipe: gives the range
        warns: whether to log the share of depth out of range
        splits: the samples of each split, by its name

    Raises:
        InputError: no sample of a split has a pixel in range
    """
    task = recipe.task
    if not isinstance(task, Depth):
        return
    for name, samples in splits.items():
        statistics = DepthStatistics(min_depth_m=task.min_depth_m, max_depth_m=task.max_depth_m)
        for sample in _readable(samples, spread(len(samples), _TRIED)):
            statistics.update(sample)
        if statistics.images == statistics.unusable > 0:
            _check_any_usable(name, samples, statistics)
        if warns and (hint := statistics.units_hint()):
            logger.warning("%s split%s", name, hint)
        if warns and statistics.too_far:
            treated = "masked" if task.mask_out_of_range else "trained on, as task.mask_out_of_range is false"
            logger.warning("%s split, %s; %s", name, statistics.range_line(), treated)


def _check_any_usable(name: str, samples: SampleDataset, statistics: DepthStatistics) -> None:
    """Check that at least one sample has depth in range."""
    found = DepthStatistics(min_depth_m=statistics.min_depth_m, max_depth_m=statistics.max_depth_m)
    for sample in _readable(samples, range(len(samples))):
        found.update(sample)
        if found.images > found.unusable:
            return
    raise InputError(
        f"no image of the {name} split has depth between task.min_depth_m {found.min_depth_m:g} and task.max_depth_m "
        f"{found.max_depth_m:g} ({found.range_line()}): correct the depth files, data.depth_scale or "
        f"task.max_depth_m{found.units_hint()}"
    )


def _readable(samples: SampleDataset, places: Iterable[int]) -> Iterator[Sample]:
    for place in places:
        try:
            yield samples[place]
        except InputError:
            continue
