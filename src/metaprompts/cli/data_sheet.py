"""The image that ``metaprompts data check --out`` writes."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.check import PartReport
from metaprompts.recipes.recipe import Recipe
from metaprompts.utils.files import write_image
from metaprompts.utils.scratch import remove_scratch
from metaprompts.visualize.histograms import class_histogram
from metaprompts.visualize.segmentation import palette
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import stack_down


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
    shown = [report for report in reports if report.shown]
    rows = [[task.draw_sample(item) for item in report.shown] for report in shown]
    captions = [[f"{report.name}: {Path(item.path).name}" for item in report.shown] for report in shown]
    sheet = contact_sheet(rows, captions, cell=task.sheet_cell)
    entries = set[int]().union(*(task.legend_entries(item) for report in shown for item in report.shown))
    if (legend := task.legend(entries, sheet.shape[1])) is not None:
        sheet = stack_down(sheet, legend)
    for report in reports:
        if (counts := report.labels) is not None:
            title, colors = f"{report.name}: {counts.title()}", palette(len(counts.classes))
            sheet = stack_down(sheet, class_histogram(title, counts.classes, colors, counts.shares(), sheet.shape[1]))
    remove_scratch(out.parent)
    write_image(out, sheet)
