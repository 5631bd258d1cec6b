"""What is to be compared: variants of recipes, each trained with several seeds. Read from TOML."""

import hashlib
import json
import shlex
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError
from metaprompts.typed import build, plain

# What a command line names by its place on one machine is the same training everywhere.
_FOLDERS = {"data.root": Path("DATA"), "training.out": Path("OUT")}
_KEY_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What every variant is trained on.

    Attributes:
        name: short, without slashes
        recipe: the recipe's name or file
        data: name of the folder of pictures, which the command line says; "scenes" can be generated
        metric: what is compared, one of the recipe's validation metrics
        higher_is_better: of the metric
        settings: recipe keys and values, such as {"training.steps": 300}
    """

    name: str
    recipe: str
    data: str
    metric: str
    higher_is_better: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the things compared.

    Attributes:
        name: short, without slashes
        settings: recipe keys and values by which it differs
        paper: numbers that the paper gives for it, by the name of a cell or of a metric
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)

    def paper_number(self, cell: Cell) -> float | None:
        """What the paper says of it where a cell stands; on the paper's data, which are others."""
        return self.paper.get(cell.name, self.paper.get(cell.metric))


@dataclass(frozen=True, kw_only=True)
class GeneratedScenes:
    """The data "scenes", for who gives no folder of that name: see `metaprompts scenes --layout plain`.

    Attributes:
        count: of scenes
        val_count: how many of them are for validation
        seed: of the first; validation begins a million later
        parts: for each number N there are lists of the first N scenes of either split: train_N.txt, depth_val_N.txt,
            annotations/person_keypoints_train_N.json and so on
    """

    count: int
    val_count: int
    seed: int = 1_000_000
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison, whole: every cell with every variant and every seed is one training.

    Attributes:
        title: heading of its table
        seeds: of the trainings
        cells: rows
        variants: columns; the first is what the others are compared with
        name: of its folder; by default that of its file
        paper: what the paper's numbers are, such as "Cityscapes mIoU in %"
        scenes: how the data "scenes" is made where none is given
        quick: whether its numbers only show that it can be run
    """

    title: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    variants: tuple[Variant, ...]
    name: str = "study"
    paper: str | None = None
    scenes: GeneratedScenes | None = None
    quick: bool = False

    def __post_init__(self) -> None:
        for kind in ("seeds", "cells", "variants"):
            if not getattr(self, kind):
                raise InputError(f"a study has no {kind}: name at least one")
        if len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"a seed is there twice: {', '.join(map(str, self.seeds))}")
        for kind, items in (("cell", self.cells), ("variant", self.variants)):
            names = [item.name for item in items]
            if len(set(names)) != len(names):
                raise InputError(f"two {kind}s have the same name: {', '.join(names)}")
            for name in names:
                if not name or "/" in name or name.startswith("."):
                    raise InputError(f"{kind} name {name!r} cannot be a file's name: use letters, digits, dashes")
        self._check_paper()

    def _check_paper(self) -> None:
        known = {cell.name for cell in self.cells} | {cell.metric for cell in self.cells}
        for variant in self.variants:
            for key, number in variant.paper.items():
                if key not in known:
                    raise InputError(f"paper of variant {variant.name} names {key}: no cell and no metric of a cell")
                if isinstance(number, bool) or not isinstance(number, int | float):
                    raise InputError(f"paper of variant {variant.name} says {key} = {number!r}; wanted a number")
            if variant.paper and self.paper is None:
                raise InputError(
                    f"variant {variant.name} has the paper's numbers: say of what, paper = 'NYU RMSE in m'"
                )

    def runs(self) -> "list[Run]":
        """All trainings, seed after seed, so that an unfinished study has whole columns."""
        return [
            Run(cell=cell, variant=variant, seed=seed)
            for seed in self.seeds
            for cell in self.cells
            for variant in self.variants
        ]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a study."""

    cell: Cell
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.cell.name}--{self.variant.name}--{self.seed}"

    @property
    def path(self) -> str:
        """As the command line names it."""
        return f"{self.cell.name}/{self.variant.name}/{self.seed}"

    @property
    def command(self) -> str:
        """As others can repeat it: folders differ from machine to machine."""
        return shlex.join(["metaprompts", "train", *self.words(*_FOLDERS.values())])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All by which the recipe differs from what the code does without one: "section.key" -> plain value.

        Folders are left out. That a later version has more keys changes nothing here.

        Raises:
            InputError: there is no such recipe or key, or a value is wrong
        """
        from metaprompts.recipe import read_recipe, section_types

        recipe, *words = self.words(*_FOLDERS.values())
        try:
            made = read_recipe(recipe, words)
        except InputError as error:
            raise InputError(f"training {self.path} cannot be: {error}") from error
        told = {"task.name": made.task.name}
        for section in ("task", *section_types(made.task.name)):
            told.update({f"{section}.{key}": value for key, value in told_values(getattr(made, section)).items()})
        return {key: value for key, value in told.items() if key not in _FOLDERS}

    @cached_property
    def key(self) -> str:
        """Of what is trained on which data: two runs with the same key are one training."""
        text = json.dumps([self.cell.data, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]

    def words(self, root: Path, out: Path) -> list[str]:
        """What follows ``metaprompts train``.

        Args:
            root: folder of the pictures
            out: folder of the training
        """
        settings = {
            **self.cell.settings,
            **self.variant.settings,
            "training.seed": self.seed,
            "data.root": root,
            "training.out": out,
        }
        return [self.cell.recipe, *(f"--{key}={_spelled(value)}" for key, value in settings.items())]


def read_study(path: Path) -> Study:
    """Read a study.

    Raises:
        InputError: the file is missing or no TOML, or a key is unknown, missing or wrong
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read study {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error
    return build(Study, {"name": path.stem, **values}, "study")


def told_values(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as they are by default, as plain values."""
    told = {}
    for one in fields(settings):
        value = plain(getattr(settings, one.name))
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if default is MISSING or value != plain(default):
            told[one.name] = value
    return told


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
