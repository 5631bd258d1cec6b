"""The optimizer and schedule sections of recipes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from metaprompts.errors import InputError
from metaprompts.utils.schema import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Settings of AdamW.

    Attributes:
        lr: learning rate at the schedule's height, of everything but the UNet
        weight_decay: decoupled weight decay
        unet_lr_scale: factor on the learning rate of the UNet, its output layer included, LoRA excepted
        decay_vectors: whether biases and other one-dimensional tensors decay too (released: segmentation yes, depth no)
        attention_norms_apart: whether the norm layers around the UNet's attention train at the full learning rate and
            without decay. In the released segmentation recipe the key "norm" beats the key "unet", so they do.
        clip_norm: largest norm of all gradients together; none to leave them
        kind: "adamw", or "adamw_8bit", whose moments take a quarter of the memory (needs the extra ``8bit``)
    """

    lr: Annotated[float, Range(0, 1e38)]
    weight_decay: Annotated[float, Range(0, 1e38)]
    unet_lr_scale: Annotated[float, Range(0, 1e6)] = 1.0
    decay_vectors: bool = True
    attention_norms_apart: bool = False
    clip_norm: Annotated[float, Range(0, 1e9, above=True)] | None = None
    kind: Literal["adamw", "adamw_8bit"] = "adamw"

    def __post_init__(self) -> None:
        check_ranges(self, "optimizer")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of the learning rate's course.

    Attributes:
        kind: "poly" (segmentation), "rise_and_fall" (depth), "step" (pose), "hold_and_fall" or "constant"
        power: exponent of poly (released: 1) or of rise and fall (released: 0.9)
        warmup_steps: all but rise and fall: steps of linear rise
        warmup_fraction: all but rise and fall: in place of warmup_steps, the rise's share of all steps, so that a short
            training leaves it, too
        warmup_ratio: all but rise and fall: share of the learning rate at the first step of the rise
        floor_lr: rise and fall: the learning rate at both ends
        rise: rise and fall: share of training spent rising. The released code rises for epochs // 2 whole epochs,
            12 of 25, so its recipes say 0.48.
        drop_at: step: shares of training after which the learning rate falls
        drop_factor: step: what it falls to each time
        fall: hold and fall: share of training, at its end, over which the learning rate falls to 0
    """

    kind: Literal["poly", "rise_and_fall", "step", "hold_and_fall", "constant"] = "constant"
    power: Annotated[float, Range(0, 100)] = 1.0
    warmup_steps: Annotated[int, Range(0, 10**9)] = 0
    warmup_fraction: Annotated[float, Range(0, 1, below=True)] | None = None
    warmup_ratio: Annotated[float, Range(0, 1000)] = 1e-6
    floor_lr: Annotated[float, Range(0, 1000)] = 0.0
    rise: Annotated[float, Range(0, 1, above=True)] = 0.5
    drop_at: tuple[Annotated[float, Range(0, 1, above=True, below=True)], ...] = ()
    drop_factor: Annotated[float, Range(0, 1000)] = 0.1
    fall: Annotated[float, Range(0, 1, above=True)] = 0.2

    def __post_init__(self) -> None:
        check_ranges(self, "schedule")
        if self.warmup_fraction is not None and self.warmup_steps:
            raise InputError(
                f"schedule.warmup_steps is {self.warmup_steps}, schedule.warmup_fraction {self.warmup_fraction:g}: "
                "give one of them, the other being 0 or none"
            )
        if self.warmup_fraction and self.kind == "rise_and_fall":
            raise InputError(
                f"schedule.warmup_fraction is {self.warmup_fraction:g}, but schedule.kind rise_and_fall has no "
                "warm-up: set it to none, and schedule.rise to the share of steps that rise"
            )

    def warmup(self, steps: int) -> int:
        """Steps of warm-up of a training of so many steps."""
        if self.kind == "rise_and_fall":
            return 0
        return self.warmup_steps if self.warmup_fraction is None else round(self.warmup_fraction * steps)
