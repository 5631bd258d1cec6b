"""The transform interface, and helpers shared by several transforms."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import Sample


class Transform(Protocol):
    """A transform of a sample; all random numbers come from the generator."""

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Return the changed sample; the input is unchanged."""
        ...


@dataclass(frozen=True)
class EveryNth:
    """Apply a transform to every n-th sample: those whose index + epoch is a multiple of n.

    Each epoch picks different samples, and the choice does not depend on the number of workers.

    Args:
        transform: the transform to apply
        every: n, at least 1
    """

    transform: Transform
    every: int

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"got every={self.every}; expected at least 1")

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Apply the transform if it is the sample's turn."""
        return sample if sample.turn % self.every else self.transform(sample, generator)


def check_probability(probability: float) -> None:
    """Raise ValueError unless 0 <= probability <= 1."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}; expected 0 to 1")


def change_all(
    sample: Sample,
    change_image: Callable[[NDArray[Any]], NDArray[Any]],
    change_target: Callable[[NDArray[Any], float], NDArray[Any]],
) -> Sample:
    """Apply the same geometric change to the image and every dense target.

    Args:
        sample: a sample without ``person``; joints would not move, so people are cropped by `PoseCrop`
        change_image: (H, W, 3) uint8 -> the same type
        change_target: a target (H, W) or (H, W, C), and its value for padded pixels -> the changed target, of the same
            type
    """
    if sample.person is not None:
        raise ValueError("geometric transforms do not move joints; crop people with PoseCrop")
    labels, depth_m = sample.labels, sample.depth_m
    return replace(
        sample,
        image=change_image(sample.image),
        labels=None if labels is None else change_target(labels, 255),
        depth_m=None if depth_m is None else change_target(depth_m, 0),
        dense={
            name: replace(target, values=change_target(target.values, target.nothing))
            for name, target in sample.dense.items()
        },
    )
