"""Read ahead and write behind, in a thread, while the caller computes."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

S = TypeVar("S")
T = TypeVar("T")


def read_ahead(items: Iterable[S], read: Callable[[S], T]) -> Iterator[T]:
    """Yield ``read(item)`` in order; the next item is read while the caller uses the current one.

    All items are read in one thread, so ``read`` is never called twice at once.
    """
    with ThreadPoolExecutor(1) as pool:
        following: Future[T] | None = None
        for item in items:
            ready, following = following, pool.submit(read, item)
            if ready is not None:
                yield ready.result()
        if following is not None:
            yield following.result()


class WriteBehind:
    """Runs one function at a time in a thread; a context manager that waits for the last one."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def run(self, write: Callable[[], None]) -> None:
        """Wait for the running function, and start the next one.

        Raises:
            Exception: an error of the function that was running
        """
        self.wait()
        self._running = self._pool.submit(write)

    def wait(self) -> None:
        """Wait for the running function; raises its error."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown()
