"""The distillation config. This module needs no PyTorch, so that --help is fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metaprompts.errors import InputError
from metaprompts.pretraining.config import Learning

_SMALLEST_CROP = 32


@dataclass(frozen=True, kw_only=True)
class Distillation(Learning):
    """The config for distilling a VAE's encoder into a small one."""

    source: str
    """Source of the VAE: a model, or a backbone."""
    out: Path
    """Folder for the encoder and the intermediate files of its training."""
    data: Path | None = None
    """Folder of training images; by default generated scenes."""
    steps: int = 1_500
    batch_size: int = 8
    """Crops per step."""
    lr: float = 2e-3
    weight_decay: float = 0.0
    warmup_steps: int = 100
    decay_fraction: float = 0.5
    ema_decay: float = 0.99
    crop: int = 128
    """Side of the training crops in pixels."""
    scenes: int = 1_000
    """Number of generated training scenes, if no data is given."""
    held_out: int = 64
    """Number of held-out evaluation images; at most a fifth of the data."""
    workers: int = 1
    """Number of processes that render scenes."""
    width: int = 64
    """Channels at the latent resolution; half as many at each finer level."""
    blocks: int = 1
    """Residual blocks at each level."""
    seed: int = 0
    """Random seed."""
    resume: Literal["auto", "never"] = "auto"
    """auto: resume the interrupted run; never: start over."""
    threads: int | None = None
    """PyTorch threads; by default one per core."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default the GPU if there is one."""
    checkpoint_seconds: float = 60.0
    """Time between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        lowest = {"scenes": 1, "held_out": 1, "workers": 1, "width": 1, "blocks": 0, "seed": 0, "crop": _SMALLEST_CROP}
        for name, least in {**lowest, "checkpoint_seconds": 0}.items():
            # This rejects NaN as well, which is neither below nor above.
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; expected at least 1")

    @property
    def _prefix(self) -> str:
        return ""
