"""Helpers for drawing samples: the box of a sample, and one sample per image."""

from collections.abc import Sequence

from metaprompts.data.sample import Sample


def box_of(sample: Sample) -> list[list[float]] | None:
    """The box of a sample with a person, in the format of `MetaPromptModel.predict`."""
    return None if sample.person is None else [sample.person.box_xywh.tolist()]


def distinct_images(samples: Sequence[Sample]) -> list[Sample]:
    """One sample of each image, because pose has one sample per person."""
    return list({sample.path: sample for sample in reversed(samples)}.values())[::-1]
