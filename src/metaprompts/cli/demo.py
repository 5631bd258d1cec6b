"""``metaprompts demo``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from metaprompts.cli.console import say
from metaprompts.cli.options import option
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Demonstrate everything in a few minutes, without network, data sets or GPU.

    Generates scenes, scores the three embedded models and constant baselines on them, trains depth live from the
    miniature Stable Diffusion for a minute, and writes one HTML file with images, refinement steps and prompt heatmaps.
    """

    out: Path = option(Path("metaprompts-demo"), metavar="DIR")
    """Folder for the scenes and the report."""
    seed: Annotated[int, Range(0, 2**53)] = 3_000_000
    """Seed of the first scene. Different seeds give different scenes."""
    scenes: int = 64
    """Number of scenes to score."""
    training_scenes: int = 256
    """Number of scenes for the live training."""
    live_seconds: float = 60.0
    """Duration of the live training."""
    quick: bool = False
    """Check an installation with 8 scenes, 16 training scenes and 5 seconds of training; the scores then mean
    little."""

    def run(self) -> int:
        """Run the demo."""
        import os

        import torch

        from metaprompts.demo.config import QUICK, DemoConfig
        from metaprompts.demo.demo import run_demo

        workers = max(1, min(os.cpu_count() or 1, 8))
        sizes = {name: getattr(self, name) for name in QUICK}
        if self.quick:
            changed = [name for name, size in sizes.items() if size != getattr(Demo, name)]
            if changed:
                raise InputError(f"--quick and --{changed[0].replace('_', '-')} contradict each other; give only one")
            sizes = QUICK
        settings = DemoConfig(out=self.out, seed=self.seed, workers=workers, **sizes)
        torch.manual_seed(0)
        say(f"report: {run_demo(settings).resolve()}\n")
        return 0
