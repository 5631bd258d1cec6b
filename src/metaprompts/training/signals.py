"""Stop a run between two steps on SIGINT or SIGTERM."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# When a signal goes to all processes of a terminal or job, torchrun also forwards it to its own processes.
_SAME_SECONDS = 3.0


class TrainingStopped(Exception):  # noqa: N818  # not an error
    """A run was stopped by a signal, after saving its state.

    Attributes:
        step: number of steps done
        steps: number of steps of the whole run
        signal: the received signal
    """

    def __init__(self, step: int, steps: int, number: int) -> None:
        super().__init__(f"stopped at step {step} of {steps}")
        self.step, self.steps, self.signal = step, steps, number


class StopRequest:
    """Whether a signal has asked the run to stop.

    Attributes:
        signal: the received signal, if any
        noticed: when it was received, on the monotonic clock
    """

    signal: int | None = None
    noticed: float = 0.0


@contextmanager
def noticing_signals() -> Iterator[StopRequest]:
    """Remember SIGINT and SIGTERM while the body runs; another one three seconds later ends the process.

    Ignored signals stay ignored, because shells start background jobs that way. Only the main thread can handle
    signals; in other threads nothing changes.
    """
    request = StopRequest()
    handlers = {each: signal.getsignal(each) for each in _SIGNALS}
    former = {each: handler for each, handler in handlers.items() if handler is not signal.SIG_IGN}

    def notice(number: int, frame: FrameType | None) -> None:
        if request.signal is None:
            request.signal, request.noticed = number, time.monotonic()
        elif time.monotonic() - request.noticed >= _SAME_SECONDS:
            _handle_by(former)
            signal.raise_signal(number)

    try:
        _handle_by(dict.fromkeys(former, notice))
    except ValueError:
        yield request
        return
    try:
        yield request
    finally:
        _handle_by(former)


def _handle_by(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
