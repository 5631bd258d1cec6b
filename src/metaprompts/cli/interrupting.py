"""How a command ends that is told to."""

import signal
from types import FrameType


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM end this process as Ctrl-C does: scratch files are removed, processes that work for it end, too."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
