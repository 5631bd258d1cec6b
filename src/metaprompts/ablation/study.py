"""Ablation studies, read from TOML: variants of recipes, each trained with several seeds."""

import hashlib
import json
import re
import shlex
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.files import read_toml
from metaprompts.utils.schema import from_dict, to_dict

if TYPE_CHECKING:
    from metaprompts.recipes.recipe import Recipe

# Machine-specific paths do not identify a run.
_FOLDERS = {"data.root": Path("DATA"), "training.output_dir": Path("OUT")}
_KEY_DIGITS = 12
# Keys that the study sets for every run.
_OWN_KEYS = ("training.seed", *_FOLDERS)
# Two dashes separate the parts of a file name.
_NAME = re.compile(r"[\w@+=][\w.@+=]*(-[\w.@+=]+)*")
# Names of folders in OUT that are not studies.
_TAKEN = ("runs", "check", "quick", "data", "results")
# Text that needs no quotes in a list on a command line.
_PLAIN_ITEM = re.compile(r"[\w.+/@-]+")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: a recipe and its data, which are used to train the variants.

    Attributes:
        name: short name made of letters, digits and single dashes
        recipe: the recipe's name or file
        data: name of the image folder, whose path is given on the command line; "scenes" can be generated
        metric: the metric by which variants are compared, one of the recipe's validation metrics
        higher_is_better: whether higher values of the metric are better
        settings: recipe keys and values, for example {"training.steps": 300}
        without: names of variants that cannot be trained in this cell; never the first
        variant_settings: variant name -> settings (recipe keys and values) for this cell only, which override those of
            the variant
    """

    name: str
    recipe: str
    data: str
    metric: str
    higher_is_better: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    variant_settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def has_recipe(self) -> bool:
        """Whether the recipe exists, so that its runs are known."""
        return self.recipe in recipe_names() or Path(self.recipe).expanduser().is_file()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the compared variants.

    Attributes:
        name: short name made of letters, digits and single dashes
        settings: recipe keys and values that define the variant; "{seed}" in a text becomes the run's seed
        paper: name of a cell or metric -> the paper's number for this variant
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)

    def paper_number(self, cell: Cell) -> float | None:
        """The number in the paper that corresponds to a cell, measured on the paper's own data."""
        return self.paper.get(cell.name, self.paper.get(cell.metric))


@dataclass(frozen=True, kw_only=True)
class GeneratedScenes:
    """The generated data "scenes", used if no folder of that name is given: see `metaprompts scenes --layout plain`.

    Attributes:
        count: number of scenes
        val_count: number of these scenes that are for validation
        seed: seed of the first scene; validation begins a million later
        parts: numbers N; for each N, lists of the first N scenes of each split are written: train_N.txt,
            depth_val_N.txt, annotations/person_keypoints_train_N.json, etc.
    """

    count: int
    val_count: int
    seed: int = 1_000_000
    parts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """A complete study: one run for each combination of cell, variant in that cell, and seed.

    Attributes:
        title: heading of the table
        seeds: seeds of the runs
        cells: rows
        variants: columns; the others are compared with the first
        name: name of the study's folder; by default that of its file
        paper: description of the paper's numbers, for example "Cityscapes mIoU in %"
        scenes: how to generate the data "scenes" if none is given
        quick: whether it is only a smoke test
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
                raise InputError(f"the study has no {kind}: add at least one")
        if len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"duplicate seed in {', '.join(map(str, self.seeds))}")
        for kind, items in (("cell", self.cells), ("variant", self.variants)):
            names = [item.name for item in items]
            if len(set(names)) != len(names):
                raise InputError(f"two {kind}s have the same name: {', '.join(names)}")
            for name in names:
                _check_name(kind, name)
        _check_name("study", self.name)
        if self.name in _TAKEN:
            raise InputError(f"study name {self.name!r} is reserved for a folder of its results: choose another")
        for key, text in (("title", self.title), ("paper", self.paper or "")):
            if "|" in text or not text.isprintable():
                raise InputError(f"{key} {text!r} would break a table: expected one line without |")
        self._check_settings()
        self._check_paper()

    def _check_settings(self) -> None:
        """Check that settings contain no key that the study sets itself, and no variant that is missing from a cell."""
        settings = {f"{kind} {one.name}": one.settings for kind, one in self._parts()}
        known = [variant.name for variant in self.variants]
        for cell in self.cells:
            for name in cell.without:
                if name not in known:
                    raise InputError(
                        f"cell {cell.name} leaves out {name}, which is not a variant; expected some of "
                        f"{', '.join(known)}"
                    )
                if name == known[0]:
                    raise InputError(
                        f"cell {cell.name} leaves out {name}, the variant that the others are compared with: keep it"
                    )
            there = [variant.name for variant in self.variants_of(cell)]
            for name, values in cell.variant_settings.items():
                where = f"variant_settings of cell {cell.name}"
                if name not in there:
                    raise InputError(
                        f"{where} are for {name}, which is not trained in this cell; expected one of {', '.join(there)}"
                    )
                if not isinstance(values, dict):
                    raise InputError(f"{where} have {name} = {values!r}; expected recipe keys and values")
                settings[f"{where} for {name}"] = values
        for where, values in settings.items():
            for key in values:
                if key.replace("-", "_") in _OWN_KEYS:
                    raise InputError(f"{where}: {key} is set by the study for each run: leave it out")

    def _parts(self) -> "list[tuple[str, Cell | Variant]]":
        return [*(("cell", cell) for cell in self.cells), *(("variant", variant) for variant in self.variants)]

    def _check_paper(self) -> None:
        known = {cell.name for cell in self.cells} | {cell.metric for cell in self.cells}
        for variant in self.variants:
            for key, number in variant.paper.items():
                if key not in known:
                    raise InputError(
                        f"paper of variant {variant.name} has {key}; expected a cell, or the metric of a cell"
                    )
                if isinstance(number, bool) or not isinstance(number, int | float):
                    raise InputError(f"paper of variant {variant.name} has {key} = {number!r}; expected a number")
            if variant.paper and self.paper is None:
                raise InputError(
                    f"variant {variant.name} has the paper's numbers: name their metric and unit, such as paper = "
                    "'NYU RMSE in m'"
                )

    def variants_of(self, cell: Cell) -> list[Variant]:
        """The variants that are trained in a cell."""
        return [variant for variant in self.variants if variant.name not in cell.without]

    def runs(self) -> "list[Run]":
        """All runs, seed after seed, so that an unfinished study has complete columns."""
        return list(self._runs)

    @cached_property
    def _runs(self) -> "tuple[Run, ...]":
        # Every call returns the same objects, so that each creates its recipe only once.
        return tuple(
            Run(cell=cell, variant=variant, seed=seed)
            for seed in self.seeds
            for cell in self.cells
            for variant in self.variants_of(cell)
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a study."""

    cell: Cell
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """The stem of the run's file names."""
        return f"{self.cell.name}--{self.variant.name}--{self.seed}"

    @property
    def path(self) -> str:
        """The run's name on the command line."""
        return f"{self.cell.name}/{self.variant.name}/{self.seed}"

    @property
    def command(self) -> str:
        """The command that reproduces the run; folders are placeholders, as they differ between machines."""
        return shlex.join(["metaprompts", "train", *self.words(*_FOLDERS.values())])

    def recipe(self, root: Path, out: Path) -> "Recipe":
        """The recipe of the run; see `words`.

        Raises:
            InputError: the recipe or a key does not exist, a value is wrong, or the task lacks the metric
        """
        from metaprompts.recipes.loader import check_prompt_keys, read_recipe

        name, *words = self.words(root, out)
        try:
            made = read_recipe(name, words)
            check_prompt_keys(made, words)
        except InputError as error:
            raise InputError(f"run {self.path} is invalid: {error}") from error
        if not made.data.validates:
            raise InputError(f"cell {self.cell.name} has data.val none, so it has no score to compare: set data.val")
        if self.cell.metric not in made.task.metrics:
            raise InputError(
                f"cell {self.cell.name} compares {self.cell.metric!r}, which {made.task.name} does not report: choose "
                f"one of {', '.join(made.task.metrics)}"
            )
        return made

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All differences of the recipe from the code's defaults, except folders: "section.key" -> plain value.

        New keys in later versions do not change this.

        Raises:
            InputError: see `recipe`
        """
        from metaprompts.recipes.recipe import section_types

        made = self.recipe(*_FOLDERS.values())
        values = {"task.name": made.task.name}
        for section in ("task", *section_types(made.task.name)):
            values.update({f"{section}.{key}": value for key, value in changed_values(getattr(made, section)).items()})
        return {key: value for key, value in values.items() if key not in _FOLDERS}

    @cached_property
    def key(self) -> str:
        """A key that identifies settings and data; runs with the same key are trained only once."""
        text = json.dumps([self.cell.data, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]

    def words(self, root: Path, out: Path) -> list[str]:
        """The arguments of ``metaprompts train``.

        Args:
            root: folder of the images
            out: folder of the run
        """
        settings = {
            **self.cell.settings,
            **self.variant.settings,
            **self.cell.variant_settings.get(self.variant.name, {}),
            "training.seed": self.seed,
            "data.root": root,
            "training.output_dir": out,
        }
        return [self.cell.recipe, *(f"--{key}={self._spelled(value)}" for key, value in settings.items())]

    def _spelled(self, value: Any) -> str:
        # Data that was made with a run of the same seed.
        return _spelled(value.replace("{seed}", str(self.seed)) if isinstance(value, str) else value)


def read_study(path: Path, *, trains: bool = True) -> Study:
    """Read a study, and the recipe of each of its runs.

    Args:
        path: path of the study
        trains: whether the recipes must exist, which is not necessary to show results

    Raises:
        InputError: the file is missing or not TOML, a key is unknown, missing or wrong, or a run is invalid
    """
    values = read_toml(path)
    try:
        study = from_dict(Study, {"name": path.stem, **values}, "study")
        for run in study.runs():
            if trains or run.cell.has_recipe:
                _ = run.settings
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return study


def changed_values(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as plain values."""
    values = {}
    for one in fields(settings):
        value = to_dict(getattr(settings, one.name))
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if default is MISSING or value != to_dict(default):
            values[one.name] = value
    return values


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"{kind} name {name!r} cannot be part of a file name: use letters, digits and single dashes")


def _spelled(value: Any) -> str:
    """A value as spelled on the command line, which a recipe parses to the same value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {json.dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        # A single word could be a keyword (none). TOML arrays of such values are also valid JSON.
        is_plain = all(
            isinstance(item, int | float) or (isinstance(item, str) and len(value) > 1 and _PLAIN_ITEM.fullmatch(item))
            for item in value
        )
        return ",".join(map(str, value)) if is_plain else json.dumps(value, ensure_ascii=False)
    return str(value)
