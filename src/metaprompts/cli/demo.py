"""``metaprompts demo``."""

from dataclasses import dataclass, replace

from metaprompts.cli.console import say
from metaprompts.demo.config import QUICK, DemoConfig
from metaprompts.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Demo(DemoConfig):
    """Demonstrate everything in a few minutes, without network, data sets or GPU.

    Generates scenes, scores the three embedded models and constant baselines on them, trains depth live from the
    miniature Stable Diffusion for a minute, and writes one HTML file with images, refinement steps and prompt heatmaps.
    """

    quick: bool = False
    """Check an installation with 8 scenes, 16 training scenes and 5 seconds of training; the scores then mean
    little."""

    def run(self) -> int:
        """Run the demo."""
        import torch

        from metaprompts.demo.demo import run_demo

        for name in QUICK if self.quick else ():
            if getattr(self, name) != getattr(Demo, name):
                raise InputError(f"--quick and --{name.replace('_', '-')} contradict each other; give only one")
        torch.manual_seed(0)
        report = run_demo(replace(self, **QUICK) if self.quick else self)
        say(f"report: {report.resolve()}\n")
        return 0
