"""Write a study's numbers as a Markdown table and a figure: means over seeds, with Student's t."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy import stats

from metaprompts.ablation.results import Results, read_results, score
from metaprompts.ablation.study import Cell, Run, Study, read_study
from metaprompts.errors import InputError
from metaprompts.utils.files import write_image
from metaprompts.utils.wording import agreeing, enumerated, markdown_table, with_unit
from metaprompts.visualize.intervals import Row, draw_intervals
from metaprompts.visualize.text import ImageArray

CONFIDENCE = 0.95
NOT_RUN = "Not run yet.\n"

_TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_BEGIN, _END = "<!-- table:", "<!-- end -->"
_FEW_SEEDS = 5
_REASON_LENGTH = 160


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean of a few numbers with its uncertainty.

    Attributes:
        count: n
        mean: mean of the values; NaN if there are none
        half_width: half width of the 95 % interval around the mean; NaN for fewer than two values
        p_value: two-sided, for the null hypothesis that the mean is 0; NaN for fewer than two values
    """

    count: int
    mean: float
    half_width: float
    p_value: float

    def text(self, sign: str = "") -> str:
        """The mean and its interval, if they exist; with ``sign`` "+", a positive mean is shown with its sign."""
        interval = "" if math.isnan(self.half_width) else f" ± {self.half_width:.3f}"
        return f"{self.mean:{sign}.3f}{interval}" if self.count else "-"

    def p_text(self) -> str:
        """The p-value, or why there is none."""
        if self.count < 2:
            return "too few seeds" if self.count else "-"
        return f"{self.p_value:.3f}" if self.p_value >= 0.001 else "< 0.001"


def estimate(values: Sequence[float]) -> Estimate:
    """Student's confidence interval and test for the mean of a few values; differences of pairs give a paired test."""
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    error = stats.sem(values) if count > 1 else math.nan
    # Without variance, any nonzero mean is significant.
    statistic = abs(mean) / error if error else math.inf if mean else 0.0
    student = stats.t(max(count - 1, 1))
    half_width = error * student.ppf((1 + CONFIDENCE) / 2)
    return Estimate(count=count, mean=mean, half_width=half_width, p_value=2 * student.sf(statistic))


def figure(study: Study, results: Results) -> ImageArray:
    """An image with a panel for each cell and a row for each variant: seeds, mean, 95 % interval, missing seeds."""
    panels = [
        (
            f"{cell.name}: {with_unit(cell.metric)}, {'higher' if cell.higher_is_better else 'lower'} is better",
            [drawn for drawn, _ in _rows(study, cell, results)],
        )
        for cell in study.cells
    ]
    return draw_intervals(panels, f"{study.title}{' (quick run: the numbers are meaningless)' if study.quick else ''}")


def markdown(study: Study, results: Results) -> str:
    """A table with one row per variant of each cell, and notes below."""
    first = study.variants[0].name
    heads = ["cell", "metric", "variant", "seeds", "mean, 95 % interval", f"difference from {first}", "p"]
    heads += ["the paper's"] if any(variant.paper for variant in study.variants) else []
    rows = [row for cell in study.cells for row in _rows(study, cell, results)]
    fewest = min((len(drawn.values) for drawn, _ in rows if drawn.values), default=_FEW_SEEDS)
    notes = "\n".join(_notes(study, results, fewest))
    return f"{markdown_table(heads, [texts[: len(heads)] for _, texts in rows])}\n{notes}\n"


def rebuilt(text: str, studies: Path, results: Path, images: Path | None = None) -> str:
    """A document with regenerated text between its markers ``<!-- table: STUDY -->`` and ``<!-- end -->``.

    Tables contain the cells that were trained. If the document's folder is given as ``images``, the study's figure is
    also written, and a line that shows it is added to the table. Studies may be in subfolders of ``studies``.

    Raises:
        InputError: a marker is not closed, or the study does not exist
    """
    if text.count(_BEGIN) != len(_TABLE.findall(text)) or text.count(_END) != text.count(_BEGIN):
        raise InputError(f"unpaired table markers: each {_BEGIN} STUDY --> needs its {_END}")

    def table(match: re.Match[str]) -> str:
        file = f"{match[2]}.toml"
        study = read_study(next(studies.rglob(file), studies / file))
        found = read_results(study.runs, results / study.name)
        if not found:
            return f"{match[1]}{NOT_RUN}{match[4]}"
        trained = {run.cell.name for run in study.runs if run.name in found}
        study = replace(study, cells=tuple(cell for cell in study.cells if cell.name in trained))
        image = f"pictures/ablation_{study.name}.png"
        if images is not None:
            write_image(images / image, figure(study, found))
        return f"{match[1]}\n{markdown(study, found)}\n![{study.title}]({image})\n{match[4]}"

    return _TABLE.sub(table, text)


def _rows(study: Study, cell: Cell, results: Results) -> Iterator[tuple[Row, list[str]]]:
    """For each variant in a cell: its row in the figure, and its row in the table."""
    first: dict[int, float] = {}
    for variant in study.variants_of(cell):
        runs = [Run(cell=cell, variant=variant, seed=seed) for seed in study.seeds]
        scores = {run.seed: score(results[run.name], cell.metric, run.path) for run in runs if run.name in results}
        values = {seed: value for seed, value in scores.items() if value is not None}
        lost = f"{len(scores) - len(values)} diverged" if len(scores) > len(values) else ""
        numbers = list(values.values())
        own = estimate(numbers)
        number = variant.paper.get(cell.name, variant.paper.get(cell.metric))
        paper = "" if number is None else f"{number:g}"
        if variant is study.variants[0]:
            first = values
            direction = "↑" if cell.higher_is_better else "↓"
            heading, compared = (cell.name, f"{with_unit(cell.metric)} {direction}"), ("", "")
        else:
            # Paired by seed.
            difference = estimate([value - first[seed] for seed, value in values.items() if seed in first])
            heading, compared = ("", ""), (difference.text("+"), difference.p_text())
        text = f"{own.text()} ({lost})" if lost else own.text()
        note = f"{own.text()}   paper {paper}" if paper else own.text()
        row = Row(name=variant.name, values=numbers, mean=own.mean, half_width=own.half_width, note=note, lost=lost)
        yield row, [*heading, variant.name, str(len(numbers)), text, *compared, paper]


def _notes(study: Study, results: Results, fewest: int) -> Iterator[str]:
    """Lines below the table; ``fewest`` is the smallest number of seeds of an entry with values."""
    quick = "Quick run: it only shows that the study works; the numbers are meaningless. " if study.quick else ""
    few = ""
    if fewest < _FEW_SEEDS:
        few = f" {fewest} seeds are few: a difference that is not significant may still exist."
    if fewest == 1:
        few = " A single seed has neither an interval nor a test."
    missing = "" if len(results) == len(study.runs) else f" {len(results)} of {len(study.runs)} runs have a result."
    yield (
        f"{quick}Student's t over seeds: confidence interval of the mean, paired test against "
        f"{study.variants[0].name} by seed, p not corrected for multiple comparisons.{few}{missing}"
    )
    if any(variant.paper for variant in study.variants):
        yield f"The paper's column: {study.paper}, with different data and a different model size."
    yield f"Trained{_origin(results)}."
    failed = [(run, results[run.name]["failed"]) for run in study.runs if "failed" in results.get(run.name, {})]
    if failed:
        yield ""
    for run, reason in failed:
        line = " ".join(reason.split()).replace("|", "/")
        yield f"- {run.path} diverged: {line[:_REASON_LENGTH]}{'…' if len(line) > _REASON_LENGTH else ''}"


def _origin(results: Results) -> str:
    commits = sorted({str(result.get("commit") or "unknown") for result in results.values()}) or ["unknown"]
    known = [result["versions"] for result in results.values() if result.get("versions")]
    versions = sorted({enumerated([f"{name} {version}" for name, version in each.items()]) for each in known})
    lengths = sorted({result["steps"] for result in results.values() if "steps" in result})
    steps = f" for {enumerated([*map(str, lengths)])} steps" if lengths else ""
    packages = f", with {'; '.join(versions)}" if versions else ""
    gap = f" ({'some' if known else 'the'} runs did not record versions)" if len(known) < len(results) else ""
    return f"{steps} at {agreeing(len(commits), 'commit')} {enumerated(commits)}{packages}{gap}"
