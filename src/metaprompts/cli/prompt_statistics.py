"""Prompt responses over a data set, for ``metaprompts heatmaps MODEL --data.root DIR``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from metaprompts.cli.console import say

if TYPE_CHECKING:
    from metaprompts.metrics.prompt_report import DepthPreferences, Preferences

_SHOWN = 10


def measure(
    source: str,
    recipe: str | None,
    overrides: Sequence[str],
    *,
    out: Path,
    level: int | Literal["mean"],
    device: str | None,
) -> int:
    """Measure what every prompt of a model responds to over the validation split of a recipe.

    Args:
        source: a model folder, the name of an embedded model, or a hub id
        recipe: name or file; None for the model's own recipe.json
        overrides: --section.key, value, ...
        out: folder for responses.json, responses.md and responses.png
        level: see `metaprompts.analysis.prompts.Level`
        device: compute device; None for the recipe's device, or the GPU if there is one

    Raises:
        InputError: model, recipe or data cannot be read, or do not match
    """
    from metaprompts.analysis.prompts import prompt_responses
    from metaprompts.recipes.model_recipe import load_with_recipe
    from metaprompts.training.dataloaders import validation_batches, validation_split
    from metaprompts.training.label_mismatch import show_missing_classes
    from metaprompts.utils.progress import ProgressBar

    model, read = load_with_recipe(Path(source), recipe, overrides, lambda own: device or own)
    split = validation_split(read)
    if (counted := read.task.check_samples(split.stored, "validation split")) is not None:
        show_missing_classes(counted)
    with ProgressBar("measuring", len(split.samples)) as bar:
        responses = prompt_responses(model, _counted(validation_batches(split, read), bar.advance), level=level)
    _write(responses, out, f"{source}, level {level}, {len(split.samples)} validation samples")
    return 0


def _counted(batches: Iterable[dict[str, Any]], on_done: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield batch
        on_done(len(batch["image"]))


def _write(responses: "Preferences | DepthPreferences", out: Path, title: str) -> None:
    from metaprompts.utils.files import write_image, write_json, write_text

    table = responses.table()
    write_json(out / "responses.json", responses.to_dict())
    write_text(out / "responses.md", f"# What the prompts respond to\n\n{title}\n\n{table}")
    write_image(out / "responses.png", responses.show())
    lines = table.splitlines(keepends=True)
    say("".join(lines[: _SHOWN + 2]))
    if len(lines) > _SHOWN + 2:
        say(f"and {len(lines) - _SHOWN - 2} more prompts\n")
    say(f"results in {out}\n")
