"""A study's numbers as a Markdown table: mean and 95 % interval over seeds, and a paired test."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaprompts.ablation.results import score
from metaprompts.ablation.statistics import Estimate, estimate
from metaprompts.ablation.study import Cell, Run, Study, Variant
from metaprompts.utils.markdown import markdown_table
from metaprompts.utils.wording import agreeing

Results = Mapping[str, Mapping[str, Any]]
"""Run name -> result, see `read_results`."""

_FEW_SEEDS = 5
_HEADS = ("cell", "metric", "variant", "seeds", "mean, 95 % interval", "difference from", "p")
_REASON_LENGTH = 160


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The values of one variant in one cell.

    Attributes:
        values: values of completed seeds, by seed
        diverged: seeds whose run diverged
    """

    values: Mapping[int, float]
    diverged: tuple[int, ...] = ()

    @property
    def estimate(self) -> Estimate:
        """The mean and interval over the seeds that have a value."""
        return estimate(list(self.values.values()))

    @property
    def lost(self) -> str:
        """A note on seeds without a value, for example "1 diverged"; "" if there are none."""
        return f"{len(self.diverged)} diverged" if self.diverged else ""

    def __str__(self) -> str:
        """Format mean, interval, and number of diverged seeds."""
        known = self.estimate
        return spelled(known) + (f" ({self.lost})" if self.lost else "")


def entry(study: Study, cell: Cell, variant: Variant, results: Results) -> Entry:
    """Collect the values of one variant in one cell.

    Raises:
        InputError: a result lacks the cell's metric
    """
    values: dict[int, float] = {}
    diverged: list[int] = []
    for run in (Run(cell=cell, variant=variant, seed=seed) for seed in study.seeds):
        if run.name in results:
            value = score(results[run.name], cell.metric, run.path)
            if value is None:
                diverged.append(run.seed)
            else:
                values[run.seed] = value
    return Entry(values=values, diverged=tuple(diverged))


def paired_difference(one: Entry, other: Entry) -> Estimate:
    """Differences between two variants, ``one`` - ``other``, seed by seed, for the seeds that both have."""
    seeds = sorted(set(one.values) & set(other.values))
    return estimate([one.values[seed] - other.values[seed] for seed in seeds])


def spelled(known: Estimate, *, signed: bool = False) -> str:
    """Format a mean and its interval, if they exist."""
    if not known.count:
        return "-"
    mean = f"{known.mean:+.3f}" if signed else f"{known.mean:.3f}"
    return mean if math.isnan(known.half_width) else f"{mean} ± {known.half_width:.3f}"


def markdown(study: Study, results: Results) -> str:
    """A table with one row per variant of each cell, and notes below."""
    has_paper = any(variant.paper for variant in study.variants)
    heads = [f"{head} {study.variants[0].name}" if head.startswith("difference") else head for head in _HEADS]
    heads += ["the paper's"] if has_paper else []
    rows = [words[: len(heads)] for cell in study.cells for words in _rows(study, cell, results)]
    return markdown_table(heads, rows) + "\n".join(["", *_notes(study, results)]) + "\n"


def _rows(study: Study, cell: Cell, results: Results) -> Iterator[list[str]]:
    first = entry(study, cell, study.variants[0], results)
    for variant in study.variants_of(cell):
        own = entry(study, cell, variant, results)
        is_first = variant is study.variants[0]
        difference = paired_difference(own, first)
        paper = variant.paper_number(cell)
        yield [
            cell.name if is_first else "",
            f"{cell.metric} {'↑' if cell.higher_is_better else '↓'}" if is_first else "",
            variant.name,
            str(len(own.values)),
            str(own),
            "" if is_first else spelled(difference, signed=True),
            "" if is_first else _spelled_p(difference),
            "" if paper is None else f"{paper:g}",
        ]


def _spelled_p(difference: Estimate) -> str:
    if difference.count < 2:
        return "too few seeds" if difference.count else "-"
    return f"{difference.p_value:.3f}" if difference.p_value >= 0.001 else "< 0.001"


def _notes(study: Study, results: Results) -> Iterator[str]:
    quick = "A quick run: it shows that the study runs; its numbers are meaningless. " if study.quick else ""
    total = len(study.runs())
    missing = "" if len(results) == total else f" Of {total} runs {len(results)} have a result."
    yield (
        f"{quick}Student's t over seeds: confidence interval of the mean, paired test against "
        f"{study.variants[0].name} by seed, p not corrected for multiple "
        f"comparisons.{_warning(study, results)}{missing}"
    )
    if study.paper is not None and any(variant.paper for variant in study.variants):
        yield f"The paper's column: {study.paper}, with different data and a different model size."
    yield f"Trained{_origin(results)}."
    if any("failed" in result for result in results.values()):
        yield ""
    for run in study.runs():
        result = results.get(run.name, {})
        if "failed" in result:
            yield f"- {run.path} diverged: {_shortened(result['failed'])}"


def _warning(study: Study, results: Results) -> str:
    counts = [len(entry(study, c, v, results).values) for c in study.cells for v in study.variants_of(c)]
    fewest = min((count for count in counts if count), default=0)
    if fewest >= _FEW_SEEDS or not fewest:
        return ""
    if fewest == 1:
        return " A single seed has neither an interval nor a test."
    return f" {fewest} seeds are few: a difference that is not significant may still exist."


def _origin(results: Results) -> str:
    commits = sorted({str(result.get("commit") or "unknown") for result in results.values()}) or ["unknown"]
    known = [result["versions"] for result in results.values() if result.get("versions")]
    versions = sorted({_enumerated([f"{name} {version}" for name, version in each.items()]) for each in known})
    lengths = sorted({result["steps"] for result in results.values() if "steps" in result})
    steps = f" for {_enumerated(lengths)} steps" if lengths else ""
    packages = f", with {'; '.join(versions)}" if versions else ""
    gap = f" ({'some' if known else 'the'} runs did not record versions)" if len(known) < len(results) else ""
    return f"{steps} at {agreeing(len(commits), 'commit')} {_enumerated(commits)}{packages}{gap}"


def _enumerated(items: Sequence[object]) -> str:
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def _shortened(reason: str) -> str:
    line = " ".join(reason.split()).replace("|", "/")
    return line if len(line) <= _REASON_LENGTH else line[:_REASON_LENGTH] + "…"
