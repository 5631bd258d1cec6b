"""Pre-training configs: one frozen dataclass per stage. This module needs no PyTorch, so that --help is fast."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from metaprompts.errors import InputError
from metaprompts.recipes.sections import Schedule

_MOST = 10**9

StageName = Literal["scenes", "vae", "latents", "text", "diffusion", "export"]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """The generated scenes."""

    count: int = 20_000
    """Number of training scenes; scene i has seed i."""
    held_out: int = 256
    """Number of evaluation scenes, with different seeds."""
    height: int = 128
    """Height in pixels; a multiple of 64."""
    width: int = 192
    """Width in pixels; a multiple of 64."""
    workers: int = 2
    """Processes that render scenes; 1 renders in the main process."""

    def __post_init__(self) -> None:
        _at_least(1, "scenes.", self, "count", "held_out", "workers")
        for name in ("height", "width"):
            if getattr(self, name) < 64 or getattr(self, name) % 64:
                raise InputError(f"scenes.{name} is {getattr(self, name)}; expected a multiple of 64")


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The common config of both trained stages."""

    steps: int
    """Optimizer steps; a larger number extends a finished run."""
    batch_size: int
    """Images (for the VAE, small crops) per step."""
    lr: float
    """Peak learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; vectors are not decayed."""
    max_grad_norm: float = 1.0
    """Maximum global gradient norm."""
    warmup_steps: int = 200
    """Number of warm-up steps, over which the learning rate rises linearly."""
    decay_fraction: float = 0.2
    """Final fraction of the steps, over which the learning rate falls to 0."""
    ema_decay: float = 0.999
    """EMA decay of the averaged weights."""

    def __post_init__(self) -> None:
        _at_least(1, self._prefix, self, "steps", "batch_size")
        _at_least(0, self._prefix, self, "lr", "weight_decay", "warmup_steps")
        if not self.max_grad_norm > 0:
            raise InputError(f"{self._prefix}max_grad_norm is {self.max_grad_norm}; expected more than 0")
        for name in ("decay_fraction", "ema_decay"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{self._prefix}{name} is {getattr(self, name)}; expected a fraction between 0 and 1")

    @property
    def _prefix(self) -> str:
        return f"{type(self).__name__.lower()}."

    @property
    def schedule(self) -> Schedule:
        """The learning-rate schedule."""
        return Schedule(kind="warmup_stable_decay", warmup_steps=self.warmup_steps, decay_fraction=self.decay_fraction)


@dataclass(frozen=True, kw_only=True)
class Vae(Learning):
    """The image autoencoder."""

    steps: int = 12_000
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.0
    decay_fraction: float = 0.5
    scenes: int = 6_000
    """Number of training scenes."""
    crop: int = 64
    """Side of the crops in pixels; a multiple of 8."""
    whole_share: float = 0.15
    """Final fraction of the steps, which use whole images in smaller batches."""
    chroma_weight: float = 2.0
    """Weight of the error in the chroma channels (Cb, Cr), relative to 1 for red, green and blue."""
    edge_weight: float = 1.0
    """Weight of the error in gradients between neighboring pixels."""
    pooled_weight: float = 0.5
    """Weight of each error after averaging 2x2, 4x4 and 8x8 blocks."""
    kl_weight: float = 1e-4
    """Weight of the latent's KL divergence from a standard normal, averaged over elements."""
    kl_warmup_steps: int = 2_000
    """Steps over which the KL weight rises from 0."""
    equal_channels: bool = False
    """Normalize each latent channel separately instead of all together, so that details count as much as plain
    colors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, "vae.", self, "scenes")
        _at_least(0, "vae.", self, "chroma_weight", "edge_weight", "pooled_weight", "kl_weight", "kl_warmup_steps")
        if self.crop < 16 or self.crop % 8:
            raise InputError(f"vae.crop is {self.crop}; expected a multiple of 8, at least 16")
        if not 0 <= self.whole_share <= self.decay_fraction:
            # Until the learning rate decays, training must not depend on the number of steps.
            raise InputError(
                f"vae.whole_share is {self.whole_share}; expected 0 to vae.decay_fraction, "
                f"which is {self.decay_fraction}"
            )


@dataclass(frozen=True, kw_only=True)
class Text:
    """The vocabulary."""

    merges: int = 500
    """Number of words and subwords that have a token, in addition to all single letters."""
    longest: int = 77
    """Maximum number of tokens in a caption, including start and end tokens; longer captions are truncated."""

    def __post_init__(self) -> None:
        _at_least(1, "text.", self, "merges")
        if not self.longest >= 8:
            raise InputError(f"text.longest is {self.longest}; expected 8 or more")


@dataclass(frozen=True, kw_only=True)
class Diffusion(Learning):
    """The denoising UNet and the text encoder."""

    steps: int = 12_000
    batch_size: int = 32
    lr: float = 1e-3
    drop_caption: float = 0.1
    """Fraction of captions dropped, for classifier-free guidance."""
    sample_every: int = 1_000
    """Steps between sample sheets."""
    sample_steps: int = 25
    """Denoising steps per sample."""
    guidance: float = 4.0
    """Classifier-free guidance scale of the samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, "diffusion.", self, "sample_every", "sample_steps", "guidance")
        if not 0 <= self.drop_caption < 1:
            raise InputError(
                f"diffusion.drop_caption is {self.drop_caption}; expected a fraction from 0 to less than 1"
            )


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The config of all pre-training stages."""

    out: Path = field(metadata={"metavar": "DIR"})
    """Folder of the run: scenes, checkpoints, sample sheets, and the model."""
    architecture: Path | None = field(default=None, metadata={"metavar": "FILE"})
    """JSON file with the configs "unet", "vae" and "text_encoder"; by default the shipped miniature."""
    init_from: Path | None = field(default=None, metadata={"metavar": "DIR"})
    """Diffusers folder, or "micro" for the shipped model: start from its UNet and text encoder, and keep its VAE
    and vocabulary."""
    seed: int = 0
    """Random seed."""
    threads: int | None = None
    """PyTorch threads of each process; by default one per core."""
    processes: int = 1
    """Processes that train the UNet, each on its share of a batch; on a CPU, one single-threaded process per core is
    fastest."""
    checkpoint_seconds: float = 120.0
    """Time between checkpoints."""
    ignore_gates: bool = False
    """Continue even if the VAE is not good enough."""
    scenes: Scenes = field(default_factory=Scenes)
    vae: Vae = field(default_factory=Vae)
    text: Text = field(default_factory=Text)
    diffusion: Diffusion = field(default_factory=Diffusion)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more")
        if self.architecture and self.init_from:
            raise InputError(
                "architecture and init_from are mutually exclusive, because the folder defines the networks: give one "
                "of them"
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; expected at least 1")
        if self.processes < 1 or self.diffusion.batch_size % self.processes:
            size = self.diffusion.batch_size
            raise InputError(f"processes is {self.processes}; expected a divisor of diffusion.batch_size, {size}")
        if self.vae.scenes > self.scenes.count:
            raise InputError(f"vae.scenes is {self.vae.scenes}; expected at most scenes.count, {self.scenes.count}")
        if self.vae.crop > min(self.scenes.height, self.scenes.width):
            raise InputError(f"vae.crop is {self.vae.crop}, which is larger than the scenes")


def _at_least(lowest: float, prefix: str, settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        # Comparisons of NaN with both bounds are false. Only counts have an upper bound, because they determine time
        # and memory.
        if isinstance(value, int) and not lowest <= value <= _MOST:
            raise InputError(f"{prefix}{name} is {value}; expected {lowest} to {_MOST}")
        if not lowest <= value < math.inf:
            raise InputError(f"{prefix}{name} is {value}; expected {lowest} or more")
