"""Helpers for drawing samples: the box of a sample, one sample per image, and the scale of its colors."""

from collections.abc import Sequence

from metaprompts.data.sample import Sample
from metaprompts.tasks.base import Task
from metaprompts.visualize.text import ImageArray, stack_down


def box_of(sample: Sample) -> list[list[float]] | None:
    """The box of a sample with a person, in the format of `MetaPromptModel.predict`."""
    return None if sample.person is None else [sample.person.box_xywh.tolist()]


def distinct_images(samples: Sequence[Sample]) -> list[Sample]:
    """One sample of each image, because pose has one sample per person."""
    return list({sample.path: sample for sample in reversed(samples)}.values())[::-1]


def with_scale(task: Task, drawn: ImageArray, sample: Sample) -> ImageArray:
    """A drawn target or prediction (H,W,3), with `Task.scale` below if the task has one."""
    scale = task.scale(sample, drawn.shape[1])
    return drawn if scale is None else stack_down(drawn, scale)
