"""Signal handling for commands."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# When all processes of a job receive a signal, some may forward it a second time.
_SAME_SECONDS = 3.0
_AGAIN_SECONDS = 0.05


@contextmanager
def ending_as_by_ctrl_c() -> Iterator[list[float]]:
    """Handle SIGTERM and SIGHUP like Ctrl-C while the block runs.

    Scratch files are removed and worker processes end. Signals ignored by nohup stay ignored; a signal repeated
    immediately does not disturb the shutdown. Only the main thread receives signals.

    Yields:
        monotonic times of received signals; an interrupted import may raise another error instead
    """
    asked: list[float] = []
    again: list[threading.Timer] = []
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
        # Python swallows exceptions raised in destructors and C callbacks, so the signal is sent again afterwards.
        kill = getattr(signal, "pthread_kill", None)
        if kill is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
            asked.clear()
            again.append(threading.Timer(_AGAIN_SECONDS, kill, (main.ident, signal.SIGTERM)))
            again[-1].start()
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
        # Nothing would catch the exception after the block.
        for timer in again:
            timer.cancel()
        sys.unraisablehook = former_hook
        for number, handler in former.items():
            signal.signal(number, handler)
