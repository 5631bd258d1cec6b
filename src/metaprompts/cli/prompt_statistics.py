"""Prompt responses over a data set, for ``metaprompts heatmaps MODEL --data.root DIR``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from metaprompts.analysis.prompts import Level, batch_responses, begin_responses
from metaprompts.cli.console import say
from metaprompts.evaluation.dataset import in_groups
from metaprompts.metrics.prompt_report import DepthPreferences, Preferences
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.model_recipe import load_with_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.dataloaders import Split, validation_batches, validation_split
from metaprompts.training.label_mismatch import show_missing_classes
from metaprompts.utils.files import write_image, write_json, write_text
from metaprompts.utils.model_workers import in_chunks, in_model_workers, worker_device
from metaprompts.utils.progress import ProgressBar

_SHOWN = 10
_State = tuple[int, dict[str, Any]]
_Opened = tuple[MetaPromptModel, Recipe, Split]


def measure(
    source: str,
    recipe: str | None,
    overrides: Sequence[str],
    *,
    out: Path,
    level: Level,
    device: str | None,
    workers: int = 1,
) -> int:
    """Measure what every prompt of a model responds to over the validation split of a recipe.

    Args:
        source: a model folder, the name of an embedded model, or a hub id
        recipe: name or file; None for the model's own recipe.json
        overrides: --section.key, value, ...
        out: folder for responses.json, responses.md and responses.png
        level: see `metaprompts.analysis.prompts.Level`
        device: compute device; None for the recipe's device, or the GPU if there is one
        workers: number of processes, each with a copy of the model; the result does not depend on it

    Raises:
        InputError: model, recipe or data cannot be read, or do not match
    """
    request = _Request(source, recipe, tuple(overrides), device, level)
    opened = request.open()
    model, read, split = opened
    if (counted := read.task.check_samples(split.stored, "validation split")) is not None:
        show_missing_classes(counted)
    responses = begin_responses(model, level)
    groups = in_groups(len(split.samples), read.training.val_batch_size)
    with ProgressBar("measuring", len(split.samples)) as bar:
        for images, state in _states(request, opened, groups, workers):
            responses.add(state)
            bar.advance(images)
    _write(responses.compute(), out, f"{source}, level {level}, {len(split.samples)} validation samples")
    return 0


@dataclass(frozen=True)
class _Request:
    source: str
    recipe: str | None
    overrides: tuple[str, ...]
    device: str | None
    level: Level

    def open(self, choose: Callable[[str | None], str | None] = lambda device: device) -> _Opened:
        """Load the model and its recipe; ``choose`` maps the device to that of this process."""
        model, read = load_with_recipe(
            Path(self.source), self.recipe, self.overrides, lambda own: choose(self.device or own)
        )
        return model, read, validation_split(read)


def _states(request: _Request, opened: _Opened, groups: list[list[int]], workers: int) -> Iterator[_State]:
    """The states of all batches in order, to be added to the responses as they arrive."""
    if workers == 1:
        yield from _group_states(request, opened, groups)
        return
    jobs = [(request, chunk) for chunk in in_chunks(groups, workers)]
    for states in in_model_workers(_states_of_groups, jobs, workers):
        yield from states


def _group_states(request: _Request, opened: _Opened, groups: list[list[int]]) -> Iterator[_State]:
    """The number of images and the state of each batch."""
    model, read, split = opened
    for batch in validation_batches(split, read, groups):
        yield len(batch["image"]), batch_responses(model, batch, request.level)


def _states_of_groups(request: _Request, groups: list[list[int]]) -> list[_State]:
    """`_group_states` in a worker process."""
    return list(_group_states(request, _opened_once(request), groups))


@lru_cache(maxsize=1)
def _opened_once(request: _Request) -> _Opened:
    return request.open(worker_device)


def _write(responses: Preferences | DepthPreferences, out: Path, title: str) -> None:
    table = responses.table()
    write_json(out / "responses.json", responses.to_dict())
    write_text(out / "responses.md", f"# What the prompts respond to\n\n{title}\n\n{table}")
    write_image(out / "responses.png", responses.show())
    lines = table.splitlines(keepends=True)
    say("".join(lines[: _SHOWN + 2]))
    if len(lines) > _SHOWN + 2:
        say(f"and {len(lines) - _SHOWN - 2} more prompts\n")
    say(f"results in {out}\n")
