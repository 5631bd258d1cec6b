"""The plan of a data set: which scenes it contains."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from metaprompts.errors import InputError
from metaprompts.synthetic.layouts.base import Layout, Place, Split

_VAL_SHARE = 0.2
_TEST_SHARE = 0.05
_SMALLEST_COUNT = 3
_LARGEST_COUNT = 10**6
# The seeds of the splits are so far apart that no scene is in two splits, whatever the count.
_SPLIT_SEEDS: dict[Split, int] = {"train": 0, "val": _LARGEST_COUNT, "test": 2 * _LARGEST_COUNT}
_ABOUT_PAIRS = "train.txt, val.txt          image and target of each scene that has one, relative to this folder\n"
_SMALLEST_SIDE, _LARGEST_SIDE = 32, 8192


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A data set to write.

    Attributes:
        name: name of the layout
        layout: layout of the files
        count: total number of scenes; a twentieth is for the test split, if the layout has one
        val_count: number of validation scenes; None for a fifth
        seed: seed of the first training scene; validation starts one million later, test two million later
        height: height of images, in pixels
        width: width of images, in pixels
    """

    name: str
    layout: Layout
    count: int
    seed: int
    height: int
    width: int
    val_count: int | None = None

    def __post_init__(self) -> None:
        if not _SMALLEST_COUNT <= self.count <= _LARGEST_COUNT:
            raise InputError(f"count is {self.count}; expected {_SMALLEST_COUNT} to {_LARGEST_COUNT} scenes")
        if self.val_count is not None and not 1 <= self.val_count < self.count - self._test_count:
            raise InputError(
                f"val-count is {self.val_count}; expected at least 1 of {self.count} scenes, with 1 left to train on"
            )
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more")
        if not (_SMALLEST_SIDE <= self.height <= _LARGEST_SIDE and _SMALLEST_SIDE <= self.width <= _LARGEST_SIDE):
            raise InputError(
                f"images are {self.height} x {self.width}; expected {_SMALLEST_SIDE} to {_LARGEST_SIDE} per side"
            )

    @cached_property
    def places(self) -> list[Place]:
        """All scenes in order: training, validation, test."""
        test = self._test_count
        val = max(1, round((self.count - test) * _VAL_SHARE)) if self.val_count is None else self.val_count
        counts: dict[Split, int] = {"train": self.count - test - val, "val": val, "test": test}
        numbered = [(split, number) for split, count in counts.items() for number in range(count)]
        return [
            Place(split=split, number=number, index=index, seed=self.seed + _SPLIT_SEEDS[split] + number)
            for index, (split, number) in enumerate(numbered)
        ]

    @property
    def _test_count(self) -> int:
        return max(1, round(self.count * _TEST_SHARE)) if self.layout.has_test else 0

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON; the same plan gives the same files."""
        return {
            "layout": self.name,
            "count": self.count,
            "seed": self.seed,
            "height": self.height,
            "width": self.width,
            **({} if self.val_count is None else {"val-count": self.val_count}),
            **asdict(self.layout),
        }

    def readme(self) -> str:
        """The README of the data set folder."""
        settings = self.to_dict()
        command = "metaprompts scenes " + " ".join(f"--{name} {value}" for name, value in settings.items())
        firsts = {place.split: place for place in reversed(self.places)}
        splits = [
            f"{sum(other.split == split for other in self.places)} for {split} (from seed {firsts[split].seed})"
            for split in sorted(firsts, key=lambda split: firsts[split].index)
        ]
        return (
            "Generated scenes, not photographs: rendered by a program in the layout of a known data set.\n\n"
            f"{command} --out DIR\n\n"
            f"{self.count} scenes of {self.height} x {self.width} pixels:\n{', '.join(splits)}.\n\n"
            f"{self.layout.about}\n"
            "captions.json               image -> its caption\n"
            f"{_ABOUT_PAIRS if self.layout.has_targets else ''}"
            "scenes.json                 the settings; the same command resumes an unfinished data set\n"
        )
