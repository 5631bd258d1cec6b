"""Class frequencies in the masks of a split, and values without a class."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from textwrap import wrap

import numpy as np

from metaprompts.data.io.label_tables import UNKNOWN, LabelValue
from metaprompts.data.sample import IGNORED_LABEL, SampleDataset
from metaprompts.errors import InputError
from metaprompts.utils.wording import counted, listed

_ROWS_AT_MOST = 24
_NAMED_AT_MOST = 6
_WIDTH = 110
_PIXELS_AT_MOST = 200_000_000


@dataclass
class LabelHistogram:
    """Counts of pixels and masks for each class, and for each value without a class.

    Attributes:
        classes: names of the classes in order
        total: number of masks in the split
        read: number of masks counted
        unreadable: number of unreadable masks
        pixels: class or (kind, value) -> number of pixels
        masks: class or (kind, value) -> number of masks that contain it
    """

    classes: tuple[str, ...]
    total: int
    read: int = 0
    unreadable: int = 0
    pixels: Counter[int | tuple[int, str]] = field(default_factory=Counter)
    masks: Counter[int | tuple[int, str]] = field(default_factory=Counter)

    def add(self, values: Iterable[LabelValue]) -> None:
        """Count a mask."""
        self.read += 1
        found: Counter[int | tuple[int, str]] = Counter()
        for value in values:
            is_class = value.label not in (IGNORED_LABEL, UNKNOWN)
            found[value.label if is_class else (value.label, value.name)] += value.pixels
        self.pixels.update(found)
        self.masks.update(found.keys())

    @property
    def never(self) -> list[str]:
        """Classes that occur in no mask."""
        return [name for index, name in enumerate(self.classes) if not self.pixels[index]]

    @property
    def is_whole(self) -> bool:
        """Whether all readable masks were counted."""
        return self.read + self.unreadable == self.total

    def shares(self) -> list[float]:
        """Each class's fraction of all counted pixels, 0..1; ignored pixels have no class."""
        total = max(1, self.pixels.total())
        return [self.pixels[index] / total for index in range(len(self.classes))]

    def title(self) -> str:
        """A description of the counted pixels."""
        ignored = 1 - sum(self.shares())
        note = f", {ignored:.1%} without a class" if ignored > 1e-9 else ""
        return f"share of pixels by class in {self._which()}{note}"

    def best_guess(self) -> tuple[str, float] | None:
        """The best constant prediction, and its mIoU; None if no class occurs."""
        counts = [self.pixels[index] for index in range(len(self.classes))]
        if not sum(counts):
            return None
        share = max(counts) / sum(counts)
        return self.classes[counts.index(max(counts))], share / sum(count > 0 for count in counts)

    def lines(self) -> list[str]:
        """A table of pixel shares and mask counts, or a paragraph if there are many classes."""
        rows = [(name, self._shown(index)) for index, name in enumerate(self.classes)]
        rows += [(f"{value} ({_KINDS[kind]})", self._shown((kind, value))) for kind, value in self._others()]
        title = f"classes in {self._which()}, share of pixels and number of masks:"
        if len(rows) > _ROWS_AT_MOST:
            text = ", ".join(f"{name} {share} ({masks})" for name, (share, masks) in rows)
            return [title, *(f"  {line}" for line in wrap(text, _WIDTH))]
        width = max(len(name) for name, _ in rows)
        return [title, *(f"  {name:{width}}  {share:>7}  {masks:>5}" for name, (share, masks) in rows)]

    def warnings(self) -> list[str]:
        """Likely mistakes, one per line."""
        return [*self.never_lines(), *self.unknown_lines()]

    def never_lines(self) -> list[str]:
        """A line on the classes that never occur; no line if random sampling may explain their absence."""
        is_suspicious = self.is_whole or 2 * len(self.never) > len(self.classes)
        if not (self.never and is_suspicious and self.read):
            return []
        classes = counted(len(self.classes), "class", "classes")
        named = listed(self.never, _NAMED_AT_MOST)
        line = f"{len(self.never)} of {classes} never occur in {self._which()}: {named}"
        values = [(kind, value) for kind, value in self._others(IGNORED_LABEL) if value != IGNORED_NAME]
        if values:
            key = max(values, key=lambda key: self.pixels[key])
            cure = shlex.quote(f"{key[1]}={self.never[0]}")
            line += f"; {key[1]} has {self._shown(key)[0]} of the pixels and is ignored: --data.label_map {cure}?"
        return [line]

    def unknown_lines(self) -> list[str]:
        """One line for each value that is neither a class nor ignored; only the first such values if there are many."""
        masks = counted(self.read, "mask")
        return [
            f"{key[1]} is neither a class nor ignored: {counted(self.pixels[key], 'pixel')} in {self.masks[key]} of "
            f"{masks}; map it with --data.label_map {shlex.quote(f'{key[1]}=CLASS')} (or =ignored)"
            for key in self._others(UNKNOWN)[:_ROWS_AT_MOST]
        ]

    def _others(self, kind: int | None = None) -> list[tuple[int, str]]:
        keys = [key for key in self.pixels if isinstance(key, tuple)]
        return sorted(key for key in keys if kind in (None, key[0]))

    def _which(self) -> str:
        if self.is_whole and self.unreadable:
            return f"{self.read} of {self.total} masks, every readable one"
        if self.is_whole:
            return f"all {self.total} masks" if self.total != 1 else "the only mask"
        return f"{self.read} of {self.total} masks, drawn at random"

    def _shown(self, key: int | tuple[int, str]) -> tuple[str, int]:
        share = self.pixels[key] / max(1, self.pixels.total())
        return ("<0.01%" if 0 < share < 1e-4 else f"{share:.2%}"), self.masks[key]


IGNORED_NAME = "255 in shards"
"""Name of ignored pixels whose stored value is unknown."""

_KINDS = {IGNORED_LABEL: "ignored", UNKNOWN: "no class"}


def count_labels(
    samples: SampleDataset,
    classes: Sequence[str],
    *,
    at_most: int | None = None,
    progress: Callable[[Iterable[int], int], Iterable[int]] | None = None,
) -> LabelHistogram:
    """Count the labels of a split; unreadable masks are skipped, because reading the samples reports them.

    Args:
        samples: samples of the split
        classes: names of the classes in order
        at_most: maximum number of masks to count, always the same ones; fewer are counted if they have more than 200
            million pixels together. None to count all
        progress: iterates over the counted indices, given their number
    """
    order = range(len(samples)) if at_most is None else np.random.default_rng(0).permutation(len(samples))
    places = [int(place) for place in order[:at_most]]
    histogram = LabelHistogram(tuple(classes), total=len(samples))
    for place in progress(places, len(places)) if progress else places:
        try:
            histogram.add(label_values(samples, place))
        except InputError:
            histogram.unreadable += 1
        if at_most is not None and histogram.pixels.total() > _PIXELS_AT_MOST:
            break
    return histogram


def check_any_label(samples: SampleDataset, what: str) -> None:
    """Check that at least one pixel of a split has a class; reads masks only until it is found.

    Args:
        samples: samples of the split
        what: name of the split, for example "training split"

    Raises:
        InputError: all pixels are ignored
    """
    ignored: Counter[str] = Counter()
    for place in range(len(samples)):
        try:
            values = label_values(samples, place)
        except InputError:
            # Reading the sample reports the error.
            return
        if any(value.label != IGNORED_LABEL for value in values):
            return
        ignored.update({value.name: value.pixels for value in values})
    named = ", ".join(name for name, _ in ignored.most_common(_NAMED_AT_MOST))
    raise InputError(
        f"every pixel of the {what} is ignored: {counted(len(samples), 'mask')} with nothing but {named}; map it with "
        "--data.label_map 255=CLASS, or see metaprompts data check"
    )


def label_values(samples: SampleDataset, place: int) -> list[LabelValue]:
    """The values of a sample's mask, with their classes and pixel counts; avoids reading the image if possible.

    Raises:
        InputError: the mask cannot be read
    """
    read = getattr(samples, "label_values", None)
    if read is not None:
        found: list[LabelValue] = read(place)
        return found
    labels = samples[place].labels
    return [] if labels is None else values_of_labels(labels)


def values_of_labels(labels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> list[LabelValue]:
    """`label_values` for labels whose stored values are unknown."""
    counts = np.bincount(labels.ravel())
    return [
        LabelValue(IGNORED_NAME if label == IGNORED_LABEL else str(label), label, int(counts[label]))
        for label in np.flatnonzero(counts).tolist()
    ]
