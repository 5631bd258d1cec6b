"""A study's numbers as a Markdown table: mean and spread over seeds, and the difference to the first variant."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaprompts.ablation.study import Cell, Study, Variant


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell of one variant.

    Attributes:
        values: of the seeds that were trained to their end, by seed
        failed: number of seeds whose training ended early
    """

    values: Mapping[int, float]
    failed: int

    @property
    def mean(self) -> float:
        """Over seeds; NaN for none."""
        return float(np.mean(list(self.values.values()))) if self.values else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation over seeds (n - 1); NaN for fewer than two."""
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        """Mean and spread, and how many failed."""
        shown = "-" if not self.values else f"{self.mean:.3f}"
        shown += f" ± {self.spread:.3f}" if len(self.values) > 1 else ""
        return shown + (f" ({self.failed} diverged)" if self.failed else "")


def entry(study: Study, cell: Cell, variant: Variant, results: Mapping[str, Mapping[str, Any]]) -> Entry:
    """Gather one cell of one variant."""
    found = [
        results[run.name] for run in study.runs() if run.cell == cell and run.variant == variant and run.name in results
    ]
    values = {result["seed"]: float(result["scores"][cell.metric]) for result in found if "scores" in result}
    return Entry(values=values, failed=sum("failed" in result for result in found))


def paired_difference(one: Entry, other: Entry) -> Entry:
    """The differences of two variants, seed by seed."""
    seeds = sorted(set(one.values) & set(other.values))
    return Entry(values={seed: one.values[seed] - other.values[seed] for seed in seeds}, failed=0)


def markdown(study: Study, results: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with a row for each cell and a column for each variant."""
    first, others = study.variants[0], study.variants[1:]
    heads = ["", "metric", *(variant.name for variant in study.variants), *(f"{first.name} - {v.name}" for v in others)]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for cell in study.cells:
        entries = {variant.name: entry(study, cell, variant, results) for variant in study.variants}
        differences = [paired_difference(entries[first.name], entries[variant.name]) for variant in others]
        arrow = "↑" if cell.higher_is_better else "↓"
        shown = [str(each) for each in entries.values()] + [_signed(each) for each in differences]
        lines.append("| " + " | ".join([cell.name, f"{cell.metric} {arrow}", *shown]) + " |")
    return "\n".join(lines) + "\n"


def _signed(difference: Entry) -> str:
    shown = str(difference)
    return shown if shown.startswith("-") else f"+{shown}"
