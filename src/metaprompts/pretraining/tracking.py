"""How long jobs tell how far they are: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

_LOG_SECONDS = 30.0
T = TypeVar("T")


def tracked(items: Iterable[T], total: int, *, what: str) -> Iterator[T]:
    """Pass on items and tell how many are done.

    Args:
        items: yielded as they come
        total: how many
        what: is being done, such as "drawing scenes"
    """
    console = Console(stderr=True, soft_wrap=True)
    if sys.stderr.isatty():
        yield from track(items, total=total, description=what, console=console)
        return
    started = told = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told >= _LOG_SECONDS or done == total:
            told, left = now, (now - started) / done * (total - done)
            console.print(f"{what}: {done}/{total}  {int(left) // 60}:{int(left) % 60:02d} left", highlight=False)
