"""``metaprompts data check``."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.cli.recipe_keys import WithRecipeKeys
from metaprompts.errors import InputError
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.wording import counted

if TYPE_CHECKING:
    from metaprompts.data.check import PartReport
    from metaprompts.data.config.base import Openers
    from metaprompts.data.sample import SampleDataset, Split
    from metaprompts.recipes.recipe import Recipe
    from metaprompts.tasks.base import Task

_NAMED_AT_MOST = 20
_MASKS_AT_MOST = 200


@dataclass(frozen=True, kw_only=True)
class Check(WithRecipeKeys):
    """Check that a recipe's data exists, is complete and can be read.

    Prints what each split contains, how this compares with the published data set, and which files are bad. For depth,
    also prints the fraction of pixels that are unmeasured or beyond task.max_depth_m, and the number of constant or
    repeated maps; for masks, the share of each class, classes that never occur, and values without a class. Give
    --data.root DIR, the folder of the data set, or --data.shards DIR, a folder written by metaprompts data shard.

    Exit code: 0 if all data is good, 1 if a split is missing or files are bad, 2 if no data is usable.
    """

    recipe: str = argument("RECIPE", names=recipe_names)
    """A .toml file, a run's recipe.json, or the name of a shipped recipe."""
    full: bool = False
    """Read every sample, instead of only 8 samples per split and, for class shares, 200 masks."""
    out: Path | None = option(None, metavar="IMAGE")
    """Output image (.png, .jpg) of some samples with labels overlaid; for segmentation with a histogram of the classes.
    By default ./data-check-RECIPE.jpg; none to write no image."""

    def run(self) -> int:
        """Check the data."""
        from metaprompts.recipes.loader import read_recipe

        out = None if self.out == Path("none") else self.out or Path(f"data-check-{Path(self.recipe).stem}.jpg")
        if out is not None and out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise InputError(f"--out is {out}; expected a file name that ends in .png or .jpg")
        recipe = read_recipe(self.recipe, self.overrides)
        if out is not None:
            recipe.data.check_output(out.parent)
        where = recipe.data.shards or recipe.data.folder()
        reports = list(self._reports(recipe))
        if not any(report.is_usable for report in reports):
            first = next(fault for report in reports for fault in (report.missing, *report.bad) if fault)
            raise InputError(f"{where} has no usable sample: {first}")
        say(f"{where}:\n")
        for report in reports:
            say(f"  {report.line()}\n")
            say("".join(f"    {line}\n" for line in report.statistics))
            say("".join(f"    warning: {line}\n" for line in report.warnings))
        wrong = list[str]()
        try:
            for line in recipe.task.describe_data(recipe.augment, recipe.test):
                say(f"  {line}\n")
        except InputError as error:
            wrong = [str(error)]
        for line in () if recipe.data.shards else _unlabeled(recipe):
            say(f"  {line}\n")
        faults = [fault for report in reports for fault in (*report.bad, *report.faults)] + wrong
        for fault in faults[:_NAMED_AT_MOST]:
            say(f"bad: {fault}\n")
        if len(faults) > _NAMED_AT_MOST:
            say(f"and {counted(len(faults) - _NAMED_AT_MOST, 'more bad file')}\n")
        if out is not None:
            _write_sheet(reports, recipe, out)
            say(f"wrote {out}\n")
        return int(bool(wrong) or any(report.missing is not None or report.bad or report.faults for report in reports))

    def _reports(self, recipe: "Recipe") -> Iterator["PartReport"]:
        from metaprompts.data.check import check_part
        from metaprompts.data.datasets.held_out import describe_overlap
        from metaprompts.utils.progress import tracked

        # A shard may merge several published parts.
        known: dict[str, int] = {} if recipe.data.shards else recipe.data.official()
        training: list[SampleDataset] = []
        for name, open_part in _parts(recipe).items():

            def progress(items: Iterable[Any], total: int, what: str = name) -> Iterable[Any]:
                return tracked(items, total, what=f"reading {what}") if self.full else items

            opened: list[SampleDataset] = []

            def open_once(part: Any = open_part, opened: "list[SampleDataset]" = opened) -> "SampleDataset":
                opened.append(part())
                return opened[0]

            report = check_part(
                name,
                open_once,
                official=known.get(name),
                full=self.full,
                progress=progress,
                statistics=recipe.task.sample_statistics(),
            )
            if opened:
                report = _with_labels(report, opened[0], recipe.task, full=self.full, progress=progress)
            if name.startswith("train"):
                training += opened
            elif (overlap := describe_overlap(training, opened)) is not None:
                report = replace(report, warnings=(*report.warnings, overlap))
            yield report


def _parts(recipe: "Recipe") -> "Openers":
    """The parts of the training and validation splits."""
    from metaprompts.training.dataloaders import samples_of

    task, data = recipe.task, recipe.data
    if isinstance(data.val, str):
        return {**task.parts(data, "train"), **task.parts(data, "val")}
    splits: list[Split] = ["train", "val"] if data.validates else ["train"]
    return {split: partial(samples_of, recipe, split) for split in splits}


def _with_labels(
    report: "PartReport",
    samples: "SampleDataset",
    task: "Task",
    *,
    full: bool,
    progress: Callable[[Iterable[Any], int], Iterable[Any]],
) -> "PartReport":
    """Add faults that training would reject, a warning about absent classes, and the histogram of the masks.

    Args:
        report: the part's report; the part is readable
        samples: the part's samples
        task: the task of the recipe
        full: count all masks instead of at most 200
        progress: called for each mask
    """
    counted = task.count_labels(samples, at_most=None if full else _MASKS_AT_MOST, progress=progress)
    faults = [] if counted is None else counted.unknown_lines()
    if counted is None or counted.read:
        try:
            task.check_samples(samples, f"{report.name} split", warns=False)
        except InputError as error:
            faults.append(str(error))
    report = replace(report, faults=(*report.faults, *faults))
    if counted is None or not counted.read:
        return report
    return replace(
        report,
        statistics=(*report.statistics, *counted.lines()),
        warnings=(*report.warnings, *counted.never_lines()),
        labels=counted,
    )


def _write_sheet(reports: "Sequence[PartReport]", recipe: "Recipe", out: Path) -> None:
    """Write one row of samples for each part, with the visible classes and their frequency below."""
    from metaprompts.utils.files import write_image
    from metaprompts.utils.scratch import remove_scratch
    from metaprompts.visualize.segmentation import class_colors, class_histogram
    from metaprompts.visualize.sheets import contact_sheet
    from metaprompts.visualize.text import stack_down

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
            title, colors = f"{report.name}: {counts.title()}", class_colors(counts.classes)
            sheet = stack_down(sheet, class_histogram(title, counts.classes, colors, counts.shares(), sheet.shape[1]))
    remove_scratch(out.parent)
    write_image(out, sheet)


def _unlabeled(recipe: "Recipe") -> Iterator[str]:
    """One line for each folder whose images have no published labels."""
    from metaprompts.data.io.images import images_in

    for name, folder in recipe.data.unlabeled().items():
        place = recipe.data.folder() / folder
        count = len(images_in(place)) if place.is_dir() else 0
        official = recipe.data.official()[name]
        found = f"{count} of {counted(official, 'image')}" if count else f"no images in {folder}"
        yield f"{name:<14} {found}; their labels are not published, and no command needs them"
