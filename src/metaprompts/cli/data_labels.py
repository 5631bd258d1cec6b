"""Report on the classes in masks in ``metaprompts data check``."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from metaprompts.data.check import PartReport
from metaprompts.data.datasets.label_histogram import check_any_label, count_labels
from metaprompts.data.sample import SampleDataset
from metaprompts.errors import InputError

_MASKS_AT_MOST = 200


def with_labels(
    report: PartReport,
    samples: SampleDataset,
    classes: tuple[str, ...],
    *,
    full: bool,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
) -> PartReport:
    """Add the histogram of a part's masks to its report.

    Args:
        report: the part's report; the part is readable
        samples: the part's samples
        classes: names of the task's classes
        full: count all masks instead of at most 200
        progress: called for each mask

    Returns:
        the report, with a warning for classes that never occur, and faults if all pixels are ignored or a value is not
        a class
    """
    counted = count_labels(samples, classes, at_most=None if full else _MASKS_AT_MOST, progress=progress)
    if not counted.read:
        return report
    faults = counted.unknown_lines()
    try:
        check_any_label(samples, f"part {report.name}")
    except InputError as error:
        faults.append(str(error))
    return replace(
        report,
        statistics=(*report.statistics, *counted.lines()),
        warnings=(*report.warnings, *counted.never_lines()),
        faults=(*report.faults, *faults),
        labels=counted,
    )
