"""Plot the results of a study."""

from metaprompts.ablation.study import Cell, Study, Variant
from metaprompts.ablation.tables import Entry, Results, entry, spelled
from metaprompts.visualize.intervals import Panel, Row, draw_intervals
from metaprompts.visualize.text import ImageArray


def study_figure(study: Study, results: Results) -> ImageArray:
    """Draw a panel for each cell and a row for each variant: seeds, mean, 95 % interval, missing seeds.

    Args:
        study: the study to plot
        results: run name -> result

    Returns:
        (height, width, 3)
    """
    panels = [
        Panel(
            title=f"{cell.name}: {cell.metric}, {'higher' if cell.higher_is_better else 'lower'} is better",
            rows=[_row(cell, variant, entry(study, cell, variant, results)) for variant in study.variants_of(cell)],
        )
        for cell in study.cells
    ]
    return draw_intervals(panels, f"{study.title}{' (quick run: the numbers are meaningless)' if study.quick else ''}")


def _row(cell: Cell, variant: Variant, own: Entry) -> Row:
    known, paper = own.estimate, variant.paper_number(cell)
    return Row(
        name=variant.name,
        values=list(own.values.values()),
        mean=known.mean,
        half_width=known.half_width,
        note=spelled(known) + ("" if paper is None else f"   paper {paper:g}"),
        lost=own.lost,
    )
