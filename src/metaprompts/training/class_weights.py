"""Class weights of the loss, balanced by class frequencies in the training masks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from metaprompts.data.datasets.label_histogram import LabelHistogram, count_labels
from metaprompts.data.sample import SampleDataset
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks import Segmentation

BALANCED = "balanced"
_DIGITS = 6
_NAMED_AT_MOST = 24


def with_class_weights(
    recipe: Recipe, samples: SampleDataset, share: Callable[[Any], list[Any]] = lambda value: [value]
) -> tuple[Recipe, list[str]]:
    """Resolve "balanced" class weights of a recipe to numbers, and describe them in lines.

    Args:
        recipe: recipe of the training
        samples: the training samples; all masks are counted
        share: gathers values over all processes; the first process's weights are used

    Returns:
        the recipe, with the same weights in every process, and the lines, which are empty if weights were given
    """
    task = recipe.task
    if not isinstance(task, Segmentation) or task.class_weights != BALANCED:
        return recipe, []
    counted = count_labels(samples, task.classes)
    weights = share(balanced_weights(counted))[0]
    return replace(recipe, task=replace(task, class_weights=tuple(weights))), _lines(counted, weights)


def balanced_weights(counted: LabelHistogram) -> list[float]:
    """Weights in inverse proportion to the pixels of each class, 1 for the average pixel.

    pixels / (classes that occur * pixels of the class), as scikit-learn's "balanced"; 1 for classes that never occur.
    """
    pixels = [counted.pixels[index] for index in range(len(counted.classes))]
    present = sum(count > 0 for count in pixels)
    return [round(sum(pixels) / (present * count), _DIGITS) if count else 1.0 for count in pixels]


def _lines(counted: LabelHistogram, weights: list[float]) -> list[str]:
    pairs = sorted(zip(weights, counted.classes, strict=True))
    chosen = pairs if len(pairs) <= _NAMED_AT_MOST else [*pairs[:3], *pairs[-3:]]
    named = ", ".join(f"{name} {weight:.3g}" for weight, name in chosen)
    shown = "" if len(chosen) == len(pairs) else f", {len(pairs)} classes, here the lightest and heaviest three"
    return [f"task.class_weights, balanced over {counted.read} training masks{shown}: {named}"]
