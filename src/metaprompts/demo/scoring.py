"""Scores of the embedded models and of constant baselines."""

from dataclasses import dataclass, replace
from pathlib import Path

from metaprompts.demo.baselines import best_constant
from metaprompts.demo.report import Score
from metaprompts.embedded import embedded_folder
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.dataloaders import Split, training_split, validation_batches, validation_split
from metaprompts.utils.progress import tracked

METRICS: dict[str, tuple[tuple[tuple[str, str, str], ...], str]] = {
    "segmentation": (
        (
            (
                "mIoU",
                "higher",
                "overlap of predicted and true pixels of a class, divided by their union; mean of classes",
            ),
            ("aAcc", "higher", "share of pixels whose class is right"),
        ),
        "the most frequent class at each pixel",
    ),
    "depth": (
        (
            ("d1", "higher", "share of pixels whose depth is within a factor of 1.25 of the truth"),
            ("rmse", "lower", "root of the mean squared error, in meters: far errors count most"),
            ("rel", "lower", "mean error as a share of the true depth"),
        ),
        "the mean depth at each pixel",
    ),
    "pose": (
        (
            ("pck@0.2", "higher", "share of joints nearer to the truth than a fifth of the person's box"),
            ("AP", "higher", "COCO's average precision by the distance of joints, relative to the person's size"),
        ),
        "the mean pose in each box",
    ),
}
"""Shown per task: metrics with their better direction and meaning, and the best constant prediction."""


@dataclass(frozen=True)
class Subject:
    """An embedded model with its recipe, on a folder of scenes."""

    model: MetaPromptModel
    recipe: Recipe
    split: Split


def subject_of(task: str, scenes: Path) -> Subject:
    """An embedded model and the validation split of scenes.

    Args:
        task: a task in `METRICS`
        scenes: folder that ``write_scenes("plain", ...)`` wrote
    """
    folder = embedded_folder(f"micro-{task}")
    recipe = on_scenes(str(folder / "recipe.json"), scenes)
    return Subject(load(folder, "cpu"), recipe, validation_split(recipe))


def on_scenes(recipe: str, scenes: Path, *overrides: str) -> Recipe:
    """A recipe whose data are scenes."""
    data = [f"--data.root={scenes}", "--data.num_workers=0", "--training.val_batch_size=8"]
    return read_recipe(recipe, [*data, *overrides])


def scores_of(subject: Subject) -> list[Score]:
    """Score a model and the best constant of the training split, both on the validation split."""
    task = subject.model.task
    metrics, baseline_name = METRICS[task.name]
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
            better=better,
            model=float(found[metric]),
            baseline=float(without[metric]),
            baseline_name=baseline_name,
        )
        for metric, better, meaning in metrics
    ]
