"""The interface of a layout: how a data set stores images and labels."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from metaprompts.synthetic import Scene

Split = Literal["train", "val", "test"]
Kind = Literal["room", "street"]
Record = dict[str, Any]
"""The entry of one scene in files that describe the whole data set, as plain JSON values."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The position of a scene in the data set.

    Attributes:
        split: the split of the scene
        number: index of the scene in the split, from 0
        index: index of the scene in the data set, from 0
        seed: the seed of the scene
    """

    split: Split
    number: int
    index: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Layout(ABC):
    """Names and contents of a data set's files. Paths are relative to the data set's folder, with forward slashes."""

    kind: ClassVar[Kind | None]
    """The only kind of scene in the data set; None if both kinds occur."""
    size: ClassVar[tuple[int, int]]
    """The default (height, width) of images."""
    has_test: ClassVar[bool] = False
    """Whether there are images without labels, as in a benchmark's test split."""
    has_targets: ClassVar[bool] = True
    """Whether images have masks or depth."""
    has_people: ClassVar[bool] = False
    """Whether there are annotations of people, in which case every split must show at least one person."""
    lists: ClassVar[tuple[str, ...]]
    """Paths of the files that describe the data set as a whole."""
    about: ClassVar[str]
    """Text for the data set's README: the files, and the differences from the real data set."""

    @abstractmethod
    def image(self, place: Place) -> str:
        """Path of an image."""

    @abstractmethod
    def target(self, place: Place) -> str | None:
        """Path of an image's target, its mask or depth; None if the layout has no targets."""

    def others(self, place: Place) -> tuple[str, ...]:
        """Paths of the other files of a scene."""
        del place
        return ()

    @abstractmethod
    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write all files of a scene, each atomically."""

    @abstractmethod
    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """The text of every file of ``lists``.

        Args:
            rows: all scenes, in order
        """

    def files(self, place: Place) -> tuple[str, ...]:
        """Paths of all files of a scene."""
        target = self.target(place)
        return (self.image(place), *(() if target is None else (target,)), *self.others(place))


def one_line_json(value: Any) -> str:
    """JSON on one line, like large published annotation files; dictionaries keep their order."""
    return json.dumps(value, allow_nan=False) + "\n"
