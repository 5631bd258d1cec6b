"""The optimizer and schedule sections of recipes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from metaprompts.errors import InputError
from metaprompts.utils.schema import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Settings of AdamW.

    Attributes:
        lr: peak learning rate of everything except the UNet
        weight_decay: decoupled weight decay
        backbone_lr_mult: factor on the learning rate of the UNet, including its output layer, excluding LoRA
        decay_bias_and_norm: whether biases and other one-dimensional tensors also decay (released: segmentation yes,
            depth no)
        attention_norms_apart: whether the norm layers around the UNet's attention train at the full learning rate and
            without decay. They do in the released segmentation recipe, where the key "norm" overrides the key "unet".
        max_grad_norm: maximum global gradient norm; none to disable clipping
        kind: "adamw", or "adamw_8bit", whose moments take a quarter of the memory (needs the extra ``8bit``)
    """

    lr: Annotated[float, Range(0, 1e38)]
    weight_decay: Annotated[float, Range(0, 1e38)]
    backbone_lr_mult: Annotated[float, Range(0, 1e6)] = 1.0
    decay_bias_and_norm: bool = True
    attention_norms_apart: bool = False
    max_grad_norm: Annotated[float, Range(0, 1e9, above=True)] | None = None
    kind: Literal["adamw", "adamw_8bit"] = "adamw"

    def __post_init__(self) -> None:
        check_ranges(self, "optimizer")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of the learning-rate schedule.

    Attributes:
        kind: "poly" (segmentation), "poly_one_cycle" (depth), "step" (pose), "warmup_stable_decay" or "constant"
        power: exponent of poly (released: 1) or of poly_one_cycle (released: 0.9)
        warmup_steps: (except poly_one_cycle) steps of linear warm-up
        warmup_fraction: (except poly_one_cycle) instead of warmup_steps, the fraction of all steps spent on warm-up,
            for runs of any length
        warmup_start_factor: (except poly_one_cycle) learning rate at the first warm-up step, as a fraction of the full
            rate
        min_lr: (poly_one_cycle) first and last learning rate
        pct_start: (poly_one_cycle) fraction of the steps spent rising. In the released code, the rate rises for epochs
            // 2 whole epochs, 12 of 25, so the released recipes set 0.48.
        milestones: (step) fractions of the steps after which the learning rate falls
        gamma: (step) factor on the learning rate at each milestone
        decay_fraction: (warmup_stable_decay) final fraction of the steps, over which the learning rate falls to 0
    """

    kind: Literal["poly", "poly_one_cycle", "step", "warmup_stable_decay", "constant"] = "constant"
    power: Annotated[float, Range(0, 100)] = 1.0
    warmup_steps: Annotated[int, Range(0, 10**9)] = 0
    warmup_fraction: Annotated[float, Range(0, 1, below=True)] | None = None
    warmup_start_factor: Annotated[float, Range(0, 1000)] = 1e-6
    min_lr: Annotated[float, Range(0, 1000)] = 0.0
    pct_start: Annotated[float, Range(0, 1, above=True)] = 0.5
    milestones: tuple[Annotated[float, Range(0, 1, above=True, below=True)], ...] = ()
    gamma: Annotated[float, Range(0, 1000)] = 0.1
    decay_fraction: Annotated[float, Range(0, 1, above=True)] = 0.2

    def __post_init__(self) -> None:
        check_ranges(self, "schedule")
        if self.warmup_fraction is not None and self.warmup_steps:
            raise InputError(
                f"schedule.warmup_steps is {self.warmup_steps} and schedule.warmup_fraction {self.warmup_fraction:g}: "
                "give one of them, and leave the other at 0 or none"
            )
        if self.warmup_fraction and self.kind == "poly_one_cycle":
            raise InputError(
                f"schedule.warmup_fraction is {self.warmup_fraction:g}, but schedule.kind poly_one_cycle has no "
                "warm-up: set it to none, and schedule.pct_start to the fraction of steps spent rising"
            )

    def warmup(self, steps: int) -> int:
        """Warm-up steps of a run of ``steps`` steps."""
        if self.kind == "poly_one_cycle":
            return 0
        return self.warmup_steps if self.warmup_fraction is None else round(self.warmup_fraction * steps)
