"""Ablation studies, read from TOML: variants of recipes, each trained with several seeds."""

import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError
from metaprompts.recipes.loader import check_prompt_keys, read_recipe
from metaprompts.recipes.recipe import Recipe, section_types
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.files import read_toml
from metaprompts.utils.schema import default_of, from_dict, to_dict

SCENES = "scenes"

# Machine-specific paths do not identify a run.
_FOLDERS = {"data.root": Path("DATA"), "training.output_dir": Path("OUT")}
# Two dashes separate the parts of a file name.
_NAME = re.compile(r"[\w@+=][\w.@+=]*(-[\w.@+=]+)*")
# Names of folders in OUT that are not studies.
_TAKEN = ("runs", "check", "quick", "data", "results")
# Text that needs no quotes in a list on a command line.
_PLAIN_ITEM = re.compile(r"[\w.+/@-]+")
_QUICK_SETTINGS = {
    "training.steps": 2,
    "training.validate_every": 2,
    "training.batch_size": 2,
    "training.loss_group_size": 2,
    "training.val_batch_size": 4,
    "schedule.warmup_steps": 0,
}
_QUICK_SCENES: dict[str, Any] = {"count": 24, "val_count": 8}


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
        variant_settings: variant name -> settings in this cell only, which override those of the variant
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
        cells, variants = ([each.name for each in named] for named in (self.cells, self.variants))
        for kind, names in (("seed", list(map(str, self.seeds))), ("cell", cells), ("variant", variants)):
            if not names:
                raise InputError(f"the study has no {kind}s: add at least one")
            if len(set(names)) != len(names):
                raise InputError(f"two {kind}s are the same: {', '.join(names)}")
        for name in (self.name, *cells, *variants):
            if not _NAME.fullmatch(name):
                raise InputError(f"name {name!r} cannot be part of a file name: use letters, digits and single dashes")
        if self.name in _TAKEN:
            raise InputError(f"study name {self.name!r} is reserved for a folder of its results: choose another")
        for key, text in (("title", self.title), ("paper", self.paper or "")):
            if "|" in text or not text.isprintable():
                raise InputError(f"{key} {text!r} would break a table: expected one line without |")
        for cell in self.cells:
            trained = [variant.name for variant in self.variants_of(cell)]
            _check_known(f"cell {cell.name} leaves out", cell.without, "variants after the first", variants[1:])
            where = f"variant_settings of cell {cell.name}"
            _check_known(f"{where} are for", cell.variant_settings, "variants that are trained in this cell", trained)
            for name, settings in cell.variant_settings.items():
                if not isinstance(settings, dict):
                    raise InputError(f"{where} have {name} = {settings!r}; expected recipe keys and values")
        scored = dict.fromkeys((*cells, *(cell.metric for cell in self.cells)))
        for variant in self.variants:
            where = f"paper of variant {variant.name} has"
            _check_known(where, variant.paper, "cells and metrics", scored)
            for key, number in variant.paper.items():
                if type(number) not in (int, float):
                    raise InputError(f"{where} {key} = {number!r}; expected a number")
        if self.paper is None and any(variant.paper for variant in self.variants):
            raise InputError("the paper's numbers need a description, such as paper = 'NYU RMSE in m'")

    def variants_of(self, cell: Cell) -> list[Variant]:
        """The variants that are trained in a cell."""
        return [variant for variant in self.variants if variant.name not in cell.without]

    def has_data(self, cell: Cell, given: Collection[str]) -> bool:
        """Whether a cell's data is among the given names, or can be generated."""
        return cell.data in given or (cell.data == SCENES and self.scenes is not None)

    @cached_property
    def runs(self) -> "tuple[Run, ...]":
        """All runs, seed after seed, so that an unfinished study has complete columns."""
        return tuple(
            Run(cell=cell, variant=variant, seed=seed, study=self.name, quick=self.quick)
            for seed in self.seeds
            for cell in self.cells
            for variant in self.variants_of(cell)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run of a study: a cell, a variant and a seed.

    Attributes:
        study: name of the study
        quick: whether the study is only a smoke test
    """

    cell: Cell
    variant: Variant
    seed: int
    study: str = "study"
    quick: bool = False

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

    def words(self, root: Path, out: Path) -> list[str]:
        """The arguments of ``metaprompts train``, given the folders of the images and of the run."""
        cell, variant = self.cell, self.variant
        settings = {**cell.settings, **variant.settings, **cell.variant_settings.get(variant.name, {})}
        own = {"training.seed": self.seed, "data.root": root, "training.output_dir": out}
        for key in settings:
            if key.replace("-", "_") in own:
                raise InputError(f"run {self.path}: {key} is set by the study for each run: remove it")
        return [cell.recipe, *(f"--{key}={_spelled(value, self.seed)}" for key, value in {**settings, **own}.items())]

    def recipe(self, root: Path, out: Path) -> Recipe:
        """The recipe of the run; see `words`.

        Raises:
            InputError: the recipe or a key does not exist, a value is wrong, or the task lacks the metric
        """
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
        """
        made = self.recipe(*_FOLDERS.values())
        values = {"task.name": made.task.name}
        for section in ("task", *section_types(made.task.name)):
            values.update({f"{section}.{key}": value for key, value in changed_values(getattr(made, section)).items()})
        return {key: value for key, value in values.items() if key not in _FOLDERS}

    @cached_property
    def key(self) -> str:
        """A key that identifies settings and data; runs with the same key are trained only once."""
        text = json.dumps([self.cell.data, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_study(path: Path, *, trains: bool = True) -> Study:
    """Read a study, and the recipe of each of its runs; recipes may be missing if nothing is trained.

    Raises:
        InputError: the file is missing or not TOML, a key is unknown, missing or wrong, or a run is invalid
    """
    values = read_toml(path)
    try:
        study = from_dict(Study, {"name": path.stem, **values}, "study")
        for run in study.runs:
            if trains or run.cell.has_recipe:
                _ = run.settings
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return study


def quick_study(study: Study, given: Collection[str]) -> Study:
    """The study as a smoke test of a minute or two: one seed, two steps, one cell per recipe; scores are meaningless.

    Cells on generated scenes are chosen first, then cells on given data sets, then others.
    """
    generated = [cell for cell in study.cells if cell.data == SCENES and study.scenes]
    first: dict[str, Cell] = {}
    for cell in generated or [cell for cell in study.cells if study.has_data(cell, given)] or study.cells:
        first.setdefault(cell.recipe, replace(cell, settings={**cell.settings, **_QUICK_SETTINGS}))
    scenes = study.scenes and replace(study.scenes, **_QUICK_SCENES)
    return replace(study, seeds=study.seeds[:1], cells=tuple(first.values()), scenes=scenes, quick=True)


def changed_values(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as plain values."""
    defaults = {each.name: default_of(each) for each in fields(settings)}
    return {name: value for name, value in to_dict(settings).items() if value != to_dict(defaults[name])}


def _check_known(where: str, names: Iterable[str], kind: str, known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{where} {name}; expected one of the {kind}: {', '.join(known) or 'none'}")


def _spelled(value: Any, seed: int) -> str:
    """A value as spelled on the command line, which a recipe parses to the same value."""
    if isinstance(value, str):
        # Data that was made with a run of the same seed.
        return value.replace("{seed}", str(seed))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {json.dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        # A single word could be a keyword (none). TOML arrays of such values are also valid JSON.
        is_word = len(value) == 1 and isinstance(value[0], str)
        is_plain = not is_word and all(_PLAIN_ITEM.fullmatch(str(item)) for item in value)
        return ",".join(map(str, value)) if is_plain else json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)
