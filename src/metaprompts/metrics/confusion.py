"""Confusion matrices: output files of a segmentation evaluation."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from torch import Tensor

from metaprompts.utils.files import write_image, write_json, write_text
from metaprompts.visualize.matrices import draw_confusion

CONFUSION = ("confusion.json", "confusion.csv", "confusion.png")
"""The files of `write_confusion`."""


def write_confusion(confusion: Tensor, classes: Sequence[str], out: Path) -> None:
    """Write the matrix as JSON, as CSV and as an image.

    Args:
        confusion: (C, C + 1) pixels, ground truth in rows, predictions in columns; the last column is "no class"
        classes: names of the C classes
        out: folder

    Raises:
        InputError: a file cannot be written
    """
    pixels = confusion[:, : len(classes)]
    counts: list[list[int]] = pixels.tolist()
    as_json, as_csv, as_image = (out / name for name in CONFUSION)
    write_json(as_json, {"rows": "truth", "columns": "prediction", "classes": list(classes), "pixels": counts})
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth \\ prediction", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, counts, strict=True))
    write_text(as_csv, text.getvalue())
    write_image(as_image, draw_confusion(pixels.numpy(), classes))
