"""Check that a data set exists, is complete, and has readable files."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from metaprompts.data.datasets.held_out import SubsetOfPeople
from metaprompts.data.datasets.keypoints import CocoKeypoints, People
from metaprompts.data.datasets.label_histogram import LabelHistogram
from metaprompts.data.layouts.folders import COCO_IMAGES
from metaprompts.data.layouts.kitti import KittiEigen
from metaprompts.data.layouts.nyu import NyuDepth
from metaprompts.data.sample import Sample, SampleDataset
from metaprompts.data.shards.dataset import ShardedSamples
from metaprompts.errors import InputError
from metaprompts.utils.wording import counted

Progress = Callable[[Iterable[int], int], Iterable[int]]
"""Progress wrapper: iterates over the indices of the samples to read, given their number."""

_TRIED = 8
_SHOWN = 4


class SampleStatistics(Protocol):
    """Statistics of the samples of a part."""

    def update(self, sample: Sample) -> None:
        """Count a sample."""
        ...

    def lines(self) -> list[str]:
        """The findings, one per line."""
        ...


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """The findings for one part of a data set.

    Attributes:
        name: name of the part, for example "train"
        missing: why the part cannot be opened; None if it can
        count: number of samples
        unit: what a sample is: "image", "person" or "box"
        official: number of samples in the published data set; None if unknown
        remark: further remarks; may be empty
        tried: number of samples read
        bad: one message per unreadable sample
        shown: some good samples, spread over the part
        statistics: statistics of the samples read, as lines
        warnings: likely mistakes
        faults: problems that make the part unusable although all samples are readable
        labels: for masks, the frequency of each class; None for other tasks
    """

    name: str
    missing: str | None = None
    count: int = 0
    unit: str = "image"
    official: int | None = None
    remark: str = ""
    tried: int = 0
    bad: tuple[str, ...] = ()
    shown: tuple[Sample, ...] = field(default=(), repr=False)
    statistics: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    labels: LabelHistogram | None = field(default=None, repr=False)

    @property
    def is_usable(self) -> bool:
        """Whether at least one sample can be read."""
        return self.missing is None and len(self.bad) < self.tried

    def line(self) -> str:
        """A summary of the part on one line."""
        if self.missing is not None:
            return f"{self.name:<14} MISSING: {self.missing}"
        published = {None: "", self.count: ", as published"}.get(self.official, f" (published: {self.official})")
        found = f"{self.name:<14} {counted(self.count, self.unit, 'boxes' if self.unit == 'box' else None)}{published}"
        return "; ".join(filter(None, (found, self.remark, f"{self.tried} read, {len(self.bad) or 'none'} bad")))


def check_part(
    name: str,
    open_part: Callable[[], SampleDataset],
    *,
    official: int | None = None,
    full: bool = False,
    progress: Progress | None = None,
    statistics: SampleStatistics | None = None,
) -> PartReport:
    """Open a part of a data set and read samples from it.

    Args:
        name: name of the part
        open_part: returns its samples
        official: number of samples in the published data set
        full: read all samples instead of 8
        progress: called for each sample read
        statistics: updated with each sample read

    Returns:
        the findings; problems in the data never raise
    """
    try:
        samples = open_part()
    except InputError as error:
        return PartReport(name=name, missing=str(error), official=official)
    places = range(len(samples)) if full else spread(len(samples), _TRIED)
    kept = {places[place] for place in spread(len(places), _SHOWN)}
    bad, shown = list[str](), list[Sample]()

    for place in progress(places, len(places)) if progress else places:
        try:
            sample = samples[place]
        except InputError as error:
            bad.append(str(error))
            continue
        if statistics is not None:
            statistics.update(sample)
        if place in kept:
            shown.append(sample)
    unit, remark = _describe(samples, name, is_published=official is not None)
    return PartReport(
        name=name,
        count=len(samples),
        unit=unit,
        official=official,
        remark=remark,
        tried=len(places),
        bad=tuple(bad),
        shown=tuple(shown),
        statistics=() if statistics is None else tuple(statistics.lines()),
    )


def spread(count: int, at_most: int) -> list[int]:
    """Up to ``at_most`` indices, including the first and the last."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, at_most)).round()})


def readable_samples(samples: SampleDataset, at_most: int | None = None) -> Iterator[Sample]:
    """Readable samples spread over a data set; all of them if ``at_most`` is None."""
    for place in range(len(samples)) if at_most is None else spread(len(samples), at_most):
        try:
            yield samples[place]
        except InputError:
            continue


def _describe(samples: SampleDataset, name: str, *, is_published: bool) -> tuple[str, str]:
    """The unit of samples (see `PartReport.unit`), and a remark."""
    if isinstance(samples, ShardedSamples):
        left_out = sum(len(each.samples) for each in samples.left_out)
        remark = f"in {counted(len(samples.shards), 'shard')}" + (f", {left_out} skipped" if left_out else "")
        return "person" if isinstance(samples, People) else "image", remark
    if isinstance(samples, SubsetOfPeople):
        return "person", ""
    if isinstance(samples, CocoKeypoints):
        split = "train" if name == "train" else "val"
        unit = "box" if name == "val_boxes" else "person"
        listed = f"{counted(samples.image_count, 'image')} listed"
        if is_published:
            listed += f" (published: {COCO_IMAGES[split]})"
        reasons = ", ".join(f"{count} {reason}" for reason, count in samples.left_out.items())
        return unit, f"{listed}; skipped annotations: {reasons}" if reasons else listed
    if isinstance(samples, KittiEigen | NyuDepth) and samples.unmeasured:
        return "image", f"{samples.unmeasured} more without depth"
    return "image", ""
