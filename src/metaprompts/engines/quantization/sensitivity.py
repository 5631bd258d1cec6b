"""Which groups of layers to leave unquantized: those whose rounding changes the raw output most."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaprompts.engines.optimized import PARTS, OptimizedModel, run, with_encode
from metaprompts.engines.quantization.recording import Recorded
from metaprompts.engines.quantization.simulation import FakeQuantization, Multiplications
from metaprompts.utils.progress import ProgressBar

SAMPLES = 2
"""Number of calibration samples on which groups are measured, one after another."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of layers.

    Attributes:
        part: "encode", "unet_step" or "decode"
        name: path of its modules within the part
        error: change of the raw output if only this group is rounded to 8 bits: its root mean square, relative to the
            standard deviation of the output
        share: its share of all multiplications of a prediction
        weights: its share of the weights of all groups
    """

    part: str
    name: str
    error: float
    share: float
    weights: float

    @property
    def cost(self) -> float:
        """What it costs to leave the group unquantized: time or memory, whichever is larger."""
        return max(self.share, self.weights)


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The measured groups.

    Attributes:
        groups: all groups, in the order of computation
        others_share: share of the multiplications that are never quantized, see `Multiplications`
    """

    groups: Sequence[Group]
    others_share: float

    def choose(self, bound: float, most: float) -> list[Group]:
        """The groups to leave unquantized, until the others' errors together are below a bound.

        Errors of different groups are nearly independent, so their squares add up. Groups that reduce the error most
        for their cost come first.

        Args:
            bound: largest error of the raw output
            most: largest total cost of the groups to leave unquantized; groups that cost more are never chosen
        """
        left, cost = sum(each.error**2 for each in self.groups), 0.0
        chosen = []
        for group in sorted(self.groups, key=lambda each: each.error**2 / (each.cost or 1e-12), reverse=True):
            if left <= bound**2:
                break
            if cost + group.cost <= most:
                chosen.append(group)
                left, cost = left - group.error**2, cost + group.cost
        return chosen

    def estimate(self, unquantized: Collection[Group]) -> float:
        """The expected error of the raw output if some groups stay unquantized."""
        return math.sqrt(sum(each.error**2 for each in self.groups if each not in unquantized))


@torch.no_grad()
def measure(prepared: OptimizedModel, recorded: Sequence[Recorded], weight_bits: int) -> Sensitivity:
    """Measure each group on a few recorded samples.

    Only the layers after a group are recomputed: a group of the head costs one pass of the head, and a group of the
    UNet costs K steps and the head.

    Args:
        prepared: the prepared model, in float32
        recorded: the samples
        weight_bits: precision of the weights, 8 or 7
    """
    counts: dict[str, Multiplications] = {}
    for part in PARTS:
        with Multiplications(getattr(prepared, part)) as counts[part]:
            recorded[0].repeat(prepared, part)
    total = sum(sum(each.layers.values()) + each.others for each in counts.values())
    weights = sum(sum(each.weights.values()) for each in counts.values())
    names = [(part, name) for part in PARTS for name in counts[part].layers]
    groups = []
    with ProgressBar("sensitivity of layers", len(names) * len(recorded)) as bar:
        for part, name in names:
            errors = []
            for sample in recorded:
                with FakeQuantization(getattr(prepared, part), frozenset([name]), weight_bits):
                    raw = _again(prepared, part, sample)
                errors.append(relative_error(raw, sample.raw))
                bar.advance()
            share, held = counts[part].layers[name] / total, counts[part].weights[name] / weights
            groups.append(Group(part=part, name=name, error=mean_error(errors), share=share, weights=held))
    return Sensitivity(groups=groups, others_share=sum(each.others for each in counts.values()) / total)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Root mean square of a difference, relative to the standard deviation of the expected values."""
    return float((found - expected).square().mean().sqrt() / expected.std().clamp_min(1e-12))


def mean_error(errors: Sequence[float]) -> float:
    """The root mean square of errors of samples."""
    return math.sqrt(sum(each**2 for each in errors) / len(errors))


def _again(prepared: OptimizedModel, part: str, sample: Recorded) -> Tensor:
    """The raw output, computed again from the beginning of a part."""
    if part == "decode":
        raw: Tensor = sample.repeat(prepared, part)[0]
        return raw
    parts = prepared if part == "encode" else with_encode(prepared, lambda images: sample.encoded)
    return run(parts, prepared.task, sample.images, sample.conditioning)
