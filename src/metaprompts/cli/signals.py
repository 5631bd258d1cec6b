"""Signal handling for commands."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Where a signal goes to all processes of a job, others may forward it.
_SAME_SECONDS = 3.0
_AGAIN_SECONDS = 0.05


@contextmanager
def ending_as_by_ctrl_c() -> Iterator[list[float]]:
    """Let SIGTERM and the end of the terminal end this process as Ctrl-C does, while the block runs.

    Scratch files are removed, processes that work for it end, too. What nohup has made ignored stays so; a signal that
    comes again at once does not disturb the end. Only the main thread receives signals.

    Yields:
        when a signal came, by the monotonic clock: imports turn what interrupts them into errors of their own
    """
    asked: list[float] = []
    main, former_hook = threading.main_thread(), sys.unraisablehook
    if threading.current_thread() is not main:
        yield asked
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if asked and now - asked[-1] < _SAME_SECONDS:
            return
        asked.append(now)
        raise KeyboardInterrupt

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        # Python swallows what a destructor or a callback of C code raises: the signal has to come again, after that.
        kill = getattr(signal, "pthread_kill", None)
        if kill is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
            asked.clear()
            threading.Timer(_AGAIN_SECONDS, kill, (main.ident, signal.SIGTERM)).start()
        else:
            former_hook(unraisable)

    numbers = [signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    former = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, interrupt)
    sys.unraisablehook = hook
    try:
        yield asked
    finally:
        sys.unraisablehook = former_hook
        for number, handler in former.items():
            signal.signal(number, handler)
