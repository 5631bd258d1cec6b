"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """A table with one line per row and a line break at its end.

    Args:
        titles: titles of the columns
        rows: the cells of each row
        numbers: whether all columns but the first are aligned to the right
    """
    rule = ["---", *["---:" if numbers else "---"] * (len(titles) - 1)]
    # A vertical bar inside a cell would end the cell.
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, rule, *escaped))
