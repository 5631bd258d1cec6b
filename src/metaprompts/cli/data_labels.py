"""The part of ``metaprompts data check`` that depends on the task."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from metaprompts.data.check import PartReport
from metaprompts.data.sample import SampleDataset
from metaprompts.errors import InputError
from metaprompts.tasks.base import Task

_MASKS_AT_MOST = 200


def with_labels(
    report: PartReport,
    samples: SampleDataset,
    task: Task,
    *,
    full: bool,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
) -> PartReport:
    """Add faults that training would reject, and the histogram of the masks, to a part's report.

    Args:
        report: the part's report; the part is readable
        samples: the part's samples
        task: the task of the recipe
        full: count all masks instead of at most 200
        progress: called for each mask

    Returns:
        the report, with a warning about classes that never occur, and faults if no sample can be trained on or a value
        is not a class
    """
    counted = task.count_labels(samples, at_most=None if full else _MASKS_AT_MOST, progress=progress)
    faults = [] if counted is None else counted.unknown_lines()
    if counted is None or counted.read:
        try:
            task.check_samples(samples, f"{report.name} split", warns=False)
        except InputError as error:
            faults.append(str(error))
    if counted is None or not counted.read:
        return replace(report, faults=(*report.faults, *faults))
    return replace(
        report,
        statistics=(*report.statistics, *counted.lines()),
        warnings=(*report.warnings, *counted.never_lines()),
        faults=(*report.faults, *faults),
        labels=counted,
    )
