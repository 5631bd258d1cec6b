"""Stop a run between two steps on SIGINT or SIGTERM."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Where a signal goes to all processes of a terminal or a job, torchrun also forwards it to those that it started.
_SAME_SECONDS = 3.0


class TrainingStopped(Exception):  # noqa: N818  # not an error
    """A run stopped on a signal, after it had saved its state.

    Attributes:
        step: steps done
        steps: number of steps of the whole run
        signal: the one that was received
    """

    def __init__(self, step: int, steps: int, number: int) -> None:
        super().__init__(f"stopped at step {step} of {steps}")
        self.step = step
        self.steps = steps
        self.signal = number


class StopRequest:
    """Whether a signal has asked the run to stop.

    Attributes:
        signal: the one that was received, if any
        noticed: when, by the monotonic clock
    """

    signal: int | None = None
    noticed: float = 0.0


@contextmanager
def noticing_signals() -> Iterator[StopRequest]:
    """While the body runs, remember SIGINT and SIGTERM instead of ending at once; one some seconds later ends at once.

    A signal that is ignored stays so: a shell starts what runs in its background that way. Signals can be noticed by
    the main thread only; in another one nothing is changed.
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
