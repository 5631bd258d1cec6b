"""Score the embedded models, and baselines that ignore the image, which give each metric a floor."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from metaprompts.demo.report import Score
from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks import TASKS
from metaprompts.tasks.base import Task
from metaprompts.training.dataloaders import Split, training_split, validation_batches, validation_split
from metaprompts.utils.progress import tracked


class Constant(nn.Module):
    """A constant prediction for every image, with the interface of a model for `evaluate`.

    Args:
        task: the task that scores the output
        raw: (1, ...) the constant output
    """

    def __init__(self, task: Task, raw: Tensor) -> None:
        super().__init__()
        self.task = task
        self.raw = raw
        self.device = raw.device

    def forward(self, images: Tensor) -> Tensor:
        """Repeat the output for each of the images (B, 3, H, W)."""
        return self.raw.expand(len(images), *self.raw.shape[1:])


def best_constant(task: Task, batches: Iterable[dict[str, Tensor]]) -> Constant:
    """The best constant prediction, see `Task.constant_output`."""
    return Constant(task, task.constant_output(batches))


@dataclass(frozen=True)
class Subject:
    """An embedded model, and its recipe with a folder of scenes as data."""

    model: MetaPromptModel
    recipe: Recipe
    split: Split


def shown_tasks() -> list[str]:
    """The tasks that have an embedded model."""
    return [task for task in TASKS if f"micro-{task}" in embedded_models()]


def subject_of(task: str, scenes: Path) -> Subject:
    """An embedded model and the validation split of scenes.

    Args:
        task: a task that has an embedded model
        scenes: folder that ``write_scenes("plain", ...)`` wrote
    """
    folder = embedded_folder(f"micro-{task}")
    recipe = on_scenes(str(folder / "recipe.json"), scenes)
    return Subject(load(folder, "cpu"), recipe, validation_split(recipe))


def on_scenes(recipe: str, scenes: Path, *overrides: str) -> Recipe:
    """The recipe with the scenes as its data."""
    data = [f"--data.root={scenes}", "--data.num_workers=0", "--training.val_batch_size=8"]
    return read_recipe(recipe, [*data, *overrides])


def scores_of(subject: Subject) -> list[Score]:
    """Score a model on the validation split, and the constant prediction that is best for the training split."""
    task = subject.model.task
    batches = validation_batches(subject.split, subject.recipe)
    found = evaluate(subject.model, tracked(batches, what="scoring"), metric_kwargs=subject.split.metric_kwargs)
    plainly = replace(training_split(subject.recipe), transforms=subject.split.transforms)
    constant = best_constant(task, validation_batches(plainly, subject.recipe))
    without = evaluate(constant, batches, metric_kwargs=subject.split.metric_kwargs)
    return [
        Score(
            task=task.name,
            metric=metric,
            meaning=meaning,
            better=task.best_by.get(metric, "higher"),
            model=float(found[metric]),
            baseline=float(without[metric]),
            baseline_name=task.about.constant,
        )
        for metric, meaning in task.about.scores.items()
    ]
