"""The demo config. This module needs no PyTorch, so that --help is fast."""

from dataclasses import dataclass
from pathlib import Path

from metaprompts.errors import InputError

LARGEST_SEED = 10**9
# demo --quick: enough to show that an installation works.
QUICK = {"scenes": 8, "training_scenes": 16, "live_seconds": 5.0}


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The sizes of the demonstration.

    Attributes:
        out: folder for scenes and report
        seed: seed of the first scene; no model was trained on scenes with seeds of 3,000,000 or more
        scenes: number of scenes to score
        training_scenes: number of scenes for live training and baselines
        live_seconds: duration of the live training
        workers: number of processes that draw scenes
    """

    out: Path
    seed: int = 3_000_000
    scenes: int = 64
    training_scenes: int = 256
    live_seconds: float = 60.0
    workers: int = 2

    def __post_init__(self) -> None:
        for name, lowest in (("scenes", 8), ("training_scenes", 8), ("workers", 1)):
            if getattr(self, name) < lowest:
                raise InputError(f"{name.replace('_', '-')} is {getattr(self, name)}; expected at least {lowest}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed is {self.seed}; expected 0 to {LARGEST_SEED}")
        if not 1 <= self.live_seconds <= 3600:
            raise InputError(f"live-seconds is {self.live_seconds}; expected 1 to 3600")
