"""The image that ``metaprompts data check --out`` writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.analysis.drawing import draw_sample
from metaprompts.data.check import PartReport
from metaprompts.data.sample import IGNORED_LABEL, Sample
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks import Depth, Pose, Segmentation
from metaprompts.utils.files import write_image
from metaprompts.utils.scratch import remove_scratch
from metaprompts.visualize.histograms import class_histogram
from metaprompts.visualize.segmentation import class_legend, palette
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import stack_down

_CELL, _DEPTH_CELL = (240, 320), (360, 320)


def write_sheet(reports: Sequence[PartReport], recipe: Recipe, out: Path) -> None:
    """Write one row of samples for each part, with the visible classes and their frequency below.

    Args:
        reports: one per part; at least one has samples to show
        recipe: the recipe of the data
        out: .png or .jpg

    Raises:
        InputError: the file cannot be written
    """
    task = recipe.task
    names = task.classes if isinstance(task, Segmentation) else ()
    bones: dict[str, Any] = {"skeleton": task.skeleton, "joints": task.joints} if isinstance(task, Pose) else {}
    shown = [report for report in reports if report.shown]
    rows = [[draw_sample(item, classes=len(names), **bones) for item in report.shown] for report in shown]
    captions = [[f"{report.name}: {Path(item.path).name}" for item in report.shown] for report in shown]
    sheet = contact_sheet(rows, captions, cell=_DEPTH_CELL if isinstance(task, Depth) else _CELL)
    seen = sorted({int(label) for report in shown for item in report.shown for label in _labels(item)})
    if seen:
        colors = palette(len(names))[seen]
        named = [names[label] for label in seen]
        sheet = stack_down(sheet, class_legend(named, colors, sheet.shape[1], numbers=seen))
    for report in reports:
        if (counts := report.labels) is not None:
            title, colors = f"{report.name}: {counts.title()}", palette(len(names))
            sheet = stack_down(sheet, class_histogram(title, names, colors, counts.shares(), sheet.shape[1]))
    remove_scratch(out.parent)
    write_image(out, sheet)


def _labels(sample: Sample) -> list[int]:
    """The classes in a sample."""
    return [] if sample.labels is None else np.setdiff1d(sample.labels, [IGNORED_LABEL]).tolist()
