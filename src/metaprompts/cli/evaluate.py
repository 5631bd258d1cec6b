"""``metaprompts evaluate``."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaprompts.errors import InputError

_USAGE = """usage: metaprompts evaluate MODEL --data.root DIR [--section.key value ...]

Score a trained model on the validation split of a data set. MODEL is a folder that training wrote (best/ or last/),
or any model folder together with --recipe RECIPE, the recipe that tells how to read the data.

  --data.root DIR      folder of the pictures
  --recipe RECIPE      recipe name or file (default: MODEL/recipe.json)
  --out FILE           where to write the numbers (default: MODEL/evaluation.json)

All keys of the recipe's data and training sections can be changed; see metaprompts train RECIPE --help.
"""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a model on a validation split: metaprompts evaluate MODEL --data.root DIR."""

    model: Path
    """A folder that training wrote."""
    recipe: str | None = None
    """Recipe name or file; by default MODEL/recipe.json."""
    out: Path | None = None
    """Where to write the numbers; by default MODEL/evaluation.json."""
    overrides: tuple[str, ...] = ()
    """--section.key value ..."""
    wants_help: bool = False
    """Explain instead of evaluate."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Evaluate":
        """Read the words after ``evaluate``.

        Raises:
            InputError: no model is given
        """
        if not words or "--help" in words or "-h" in words:
            return cls(model=Path(), wants_help=True)
        if words[0].startswith("-"):
            raise InputError("no model given: metaprompts evaluate MODEL --data.root DIR")
        rest, options = list(words[1:]), {"--recipe": None, "--out": None}
        for name in options:
            if name in rest:
                place = rest.index(name)
                if place + 1 == len(rest):
                    raise InputError(f"{name} has no value")
                options[name] = rest[place + 1]  # type: ignore[assignment]
                del rest[place : place + 2]
        out = options["--out"]
        return cls(
            model=Path(words[0]),
            recipe=options["--recipe"],
            out=None if out is None else Path(out),
            overrides=tuple(rest),
        )

    def run(self) -> int:
        """Evaluate, or explain."""
        if self.wants_help:
            sys.stdout.write(_USAGE)
            return 0
        from metaprompts.evaluation.run import evaluate
        from metaprompts.files import write_json
        from metaprompts.model import load
        from metaprompts.recipe import read_recipe
        from metaprompts.training.data import validation_batches, validation_split
        from metaprompts.training.progress import ProgressLine

        recipe = read_recipe(self.recipe or str(self.model / "recipe.json"), self.overrides)
        model = load(self.model, recipe.training.device)
        if model.task.name != recipe.task.name:
            raise InputError(f"{self.model} predicts {model.task.name}, the recipe is of {recipe.task.name}")
        split = validation_split(recipe)
        progress = ProgressLine()
        scores = evaluate(model, progress.validating(validation_batches(split, recipe)), facts=split.facts)
        for name, value in scores.items():
            sys.stdout.write(f"{name:>16}  {value}\n" if not isinstance(value, float) else f"{name:>16}  {value:.4f}\n")
        write_json(self.out or self.model / "evaluation.json", scores)
        return 0
