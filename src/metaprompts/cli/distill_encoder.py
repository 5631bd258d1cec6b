"""``metaprompts distill-encoder``."""

from dataclasses import dataclass
from pathlib import Path

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.embedded import embedded_models
from metaprompts.pretraining.distillation.config import Distillation
from metaprompts.utils.wording import counted


@dataclass(frozen=True, kw_only=True)
class DistillEncoder(Distillation):
    """Train a small, faster encoder that approximates a VAE's latents.

    Writes encoder.safetensors, encoder.json and report.json (the error on held-out images) to DIR.
    Predictions with the encoder are approximate; it works with every model that uses the same VAE. If interrupted, run
    the same command again to resume; a larger --steps extends a finished run. DIR/training and DIR/scenes are needed
    only to resume.
    """

    source: str = argument("MODEL", names=embedded_models)
    """Source of the VAE: a model folder, an embedded model, or a backbone (hub id, diffusers folder, single file, or
    micro)."""
    out: Path = option(metavar="DIR")
    """Folder for the encoder and intermediate training files."""
    data: Path | None = option(None, metavar="DIR")
    """Folder of training images; by default generated scenes."""

    def run(self) -> int:
        """Train the remaining steps, measure the error, and write the files."""
        from metaprompts.pretraining.distillation.distill import distill
        from metaprompts.utils.progress import ConsoleProgress

        found = distill(self, ConsoleProgress())
        say(
            f"on {counted(found.images, 'image')} held out from training: {found.unexplained:.2%} of the latents' "
            f"variance unexplained, {found.worst_channel:.2%} in the worst channel; mean error "
            f"{found.mean_absolute:.4f} of their standard deviation\n"
            f"{found.parameters:,} parameters, compared with {found.vae_parameters:,} in the VAE's encoder\n"
            f"finished: {self.out}\n"
        )
        return 0
