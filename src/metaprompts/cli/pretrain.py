"""``metaprompts pretrain``."""

from dataclasses import dataclass
from typing import Literal

from metaprompts.cli.console import say
from metaprompts.pretraining.config import Pretraining, StageName


@dataclass(frozen=True, kw_only=True)
class Pretrain(Pretraining):
    """Pre-train a miniature Stable Diffusion on generated scenes, without a GPU.

    Renders scenes with captions, trains a VAE, then a UNet with a text encoder, and writes a diffusers folder,
    DIR/model, that StableDiffusionPipeline and --backbone.source load. If interrupted, run the same command again to
    resume; it skips finished stages. A larger --diffusion.steps extends a finished run.
    """

    stage: StageName | Literal["all"] = "all"
    """Run only this stage."""

    def run(self) -> int:
        """Run all unfinished stages."""
        from diffusers.utils.logging import disable_progress_bar as quiet_diffusers
        from transformers.utils.logging import disable_progress_bar as quiet_transformers

        from metaprompts.pretraining.pretrain import pretrain
        from metaprompts.utils.progress import ConsoleProgress

        # Progress bars of small files would hide the training progress.
        quiet_diffusers()
        quiet_transformers()  # type: ignore[no-untyped-call]
        pretrain(self, ConsoleProgress(), stage=None if self.stage == "all" else self.stage)
        say(f"finished: {self.out}\n")
        return 0
