"""Images in both the training and the validation split."""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache

from metaprompts.data.sample import SampleDataset

logger = logging.getLogger(__name__)


def describe_overlap(training: Sequence[SampleDataset], validation: Sequence[SampleDataset]) -> str | None:
    """Describe how many validation images are also training images, even under other paths; None if none are.

    Args:
        training: the parts of the training split
        validation: the parts of the validation split
    """
    known, held = _images(training), _images(validation)
    shared = [path for image, path in held.items() if image in known]
    if not shared:
        return None
    return (
        f"{len(shared)} of {len(held)} validation images are also training images (the first: {shared[0]}): scores on "
        "them say little about new images"
    )


def warn_of_overlap(splits: Mapping[str, SampleDataset]) -> None:
    """Log the overlap of the splits named training and validation, if both exist."""
    training, validation = ([splits[name]] if name in splits else [] for name in ("training", "validation"))
    if (line := describe_overlap(training, validation)) is not None:
        logger.warning("%s", line)


def _images(parts: Sequence[SampleDataset]) -> dict[str, str]:
    """The images of a split: path with folder links resolved -> path as given."""
    resolved = cache(os.path.realpath)
    paths = [samples.path(index) for samples in parts for index in range(len(samples))]
    return {os.path.join(resolved(os.path.dirname(path)), os.path.basename(path)): path for path in paths}  # noqa: PTH118, PTH119, PTH120
