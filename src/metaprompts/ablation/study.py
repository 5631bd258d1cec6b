"""What is to be compared: variants of recipes, each trained with several seeds. Read from TOML."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError
from metaprompts.typed import build


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What every variant is trained on.

    Attributes:
        name: short, without slashes
        recipe: the recipe's name or file
        data: name of the folder of pictures, which the command line says
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
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison, whole: every cell with every variant and every seed is one training.

    Attributes:
        title: heading of its table
        seeds: of the trainings
        cells: rows
        variants: columns; the first is what the others are compared with
    """

    title: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        for kind in ("seeds", "cells", "variants"):
            if not getattr(self, kind):
                raise InputError(f"a study has no {kind}: name at least one")
        for kind, items in (("cell", self.cells), ("variant", self.variants)):
            names = [item.name for item in items]
            if len(set(names)) != len(names):
                raise InputError(f"two {kind}s have the same name: {', '.join(names)}")
            for name in names:
                if not name or "/" in name or name.startswith("."):
                    raise InputError(f"{kind} name {name!r} cannot be a file's name: use letters, digits, dashes")

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
    return build(Study, values, "study")


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
