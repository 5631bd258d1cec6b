"""Check that splits have usable labels, and count the classes in them."""

import logging

from metaprompts.data.datasets.label_histogram import LabelHistogram, check_any_label, count_labels
from metaprompts.data.sample import SampleDataset
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks import Segmentation

logger = logging.getLogger(__name__)

# For Cityscapes' large masks this takes about 3 seconds.
_MASKS_AT_MOST = 100


def check_labels(recipe: Recipe, *, warns: bool = True, **splits: SampleDataset) -> dict[str, LabelHistogram]:
    """Check that each split has a pixel with a class, and count the classes; no-op for other tasks.

    At most 100 masks of each split are counted, always the same ones.

    Args:
        recipe: names the classes
        warns: whether to count, and to log classes that never occur and values that are not classes
        splits: the samples of each split, by its name

    Returns:
        the counts of each split

    Raises:
        InputError: every pixel of a split is ignored
    """
    task = recipe.task
    if not isinstance(task, Segmentation):
        return {}
    counted = {}
    for name, samples in splits.items():
        check_any_label(samples, f"{name} split")
        if warns:
            counted[name] = count_labels(samples, task.classes, at_most=_MASKS_AT_MOST)
            for line in counted[name].warnings():
                logger.warning("%s split: %s", name, line)
    return counted
