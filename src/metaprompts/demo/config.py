"""The demo config. This module needs no PyTorch, so that --help is fast."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

LARGEST_SEED = 10**9
# demo --quick: enough to show that an installation works.
QUICK: dict[str, Any] = {"scenes": 8, "training_scenes": 16, "live_seconds": 5.0}


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The sizes of the demonstration."""

    out: Path = field(default=Path("metaprompts-demo"), metadata={"metavar": "DIR"})
    """Folder for the scenes and the report."""
    seed: Annotated[int, Range(0, 2**53)] = 3_000_000
    """Seed of the first scene. Different seeds give different scenes; no model was trained on scenes with seeds of
    3,000,000 or more."""
    scenes: int = 64
    """Number of scenes to score."""
    training_scenes: int = 256
    """Number of scenes for the live training and the baselines."""
    live_seconds: float = 60.0
    """Duration of the live training."""

    def __post_init__(self) -> None:
        for name in ("scenes", "training_scenes"):
            if getattr(self, name) < 8:
                raise InputError(f"{name.replace('_', '-')} is {getattr(self, name)}; expected at least 8")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed is {self.seed}; expected 0 to {LARGEST_SEED}")
        if not 1 <= self.live_seconds <= 3600:
            raise InputError(f"live-seconds is {self.live_seconds}; expected 1 to 3600")
