"""A contact sheet of the images with the least confident labels."""

from collections.abc import Collection, Iterator
from heapq import nsmallest
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image

from metaprompts.scale.images import Content, read_items
from metaprompts.scale.job import LabelJob
from metaprompts.scale.labeler import Labeler
from metaprompts.scale.source import Plan
from metaprompts.utils.batches import batched
from metaprompts.utils.progress import report_lines
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import ImageArray

REVIEW_FILE = "review.jpg"
_PAIRS_ACROSS = 3
_CELL = (180, 240)
T = TypeVar("T")


def write_review(job: LabelJob, plan: Plan, count: int) -> None:
    """Write the images with the lowest confidence and their labels, least confident first.

    Args:
        job: a finished job
        plan: the slices of the job
        count: number of images

    Raises:
        InputError: a result or the sheet cannot be read or written
    """
    doubtful = nsmallest(count, _confidences(job, plan))
    if not doubtful:
        report_lines([f"no {REVIEW_FILE}: no image has a confidence"])
        return
    contents = _contents(plan, {(number, place) for _, number, place in doubtful})
    pairs, captions = list[list[ImageArray]](), list[list[str]]()
    labeler = Labeler(job.model, **{**job.options, "confidence": False})
    labels = labeler.labels(contents[number, place] for _, number, place in doubtful)
    for (confidence, _, _), (content, _, prediction) in zip(doubtful, labels, strict=True):
        if prediction is not None:
            pairs.append([prediction.image, np.asarray(prediction.show(legend=False))])
            captions.append([f"{confidence:.2f} {PurePosixPath(content.name).name}", ""])
    with job.folder.writing(REVIEW_FILE) as path:
        Image.fromarray(contact_sheet(_in_rows(pairs), _in_rows(captions), cell=_CELL)).save(path, "JPEG")


def _contents(plan: Plan, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], Content]:
    """Images by slice number and position in the slice."""
    found = {}
    for part in plan:
        for place, item in enumerate(part.items):
            if (part.number, place) in places:
                (found[part.number, place],) = read_items([item])
    return found


def _confidences(job: LabelJob, plan: Plan) -> Iterator[tuple[float, int, int]]:
    """The confidence of each image, its slice, and its position in the slice."""
    for part in plan:
        for place, confidence in enumerate(job.confidences(part)):
            if confidence is not None:
                yield confidence, part.number, place


def _in_rows(pairs: list[list[T]]) -> list[list[T]]:
    return [[each for pair in group for each in pair] for group in batched(pairs, _PAIRS_ACROSS)]
