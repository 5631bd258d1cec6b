"""How a command ends that is told to."""

import signal
from types import FrameType


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM and the end of the terminal end this process as Ctrl-C does.

    Scratch files are removed, processes that work for it end, too. What nohup has made ignored stays so.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signal.signal(hangup, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
