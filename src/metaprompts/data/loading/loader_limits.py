"""System limits of DataLoader workers, and errors if they are too low."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from metaprompts.errors import InputError

T = TypeVar("T")

# The libraries' own files, and for each process its pipes and the tensors in transit.
_FILES, _FILES_OF_GROUP = 128, 16
_FEW = "data.num_workers 0 reads in the main process"


def check_open_files(workers: int, prefetch: int = 2) -> None:
    """Raise the limit of open files as needed, because PyTorch hangs if it is too low.

    Args:
        workers: number of reader processes
        prefetch: groups prefetched by each process

    Raises:
        InputError: the system's limit is lower
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = _FILES + _FILES_OF_GROUP * workers * prefetch
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if workers == 0 or soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"{workers} DataLoader workers need {needed} open files, but the limit is {hard}: run ulimit -n {needed}, "
            f"or {_FEW}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def read_all(loader: Iterable[T]) -> Iterator[T]:
    """Iterate over a DataLoader, with a one-line error when a worker dies.

    Raises:
        InputError: a worker was killed, or could not transfer its data
    """
    groups = iter(loader)
    while True:
        with naming_lost_workers():
            try:
                group = next(groups)
            except StopIteration:
                return
        yield group


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Raise a one-line error if a worker was killed, or could not transfer its batch.

    Raises:
        InputError: a worker died
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        text = " ".join(str(error).split())
        if "shared memory" in text or "unable to write to file </torch" in text or "Bus error" in text:
            raise InputError(
                "shared memory (/dev/shm) is too small for the batches of the DataLoader workers: enlarge it (docker "
                f"run --shm-size 8g), lower data.prefetch or data.num_workers; {_FEW}"
            ) from error
        if ("DataLoader worker" in text and "exited unexpectedly" in text) or "is killed by signal" in text:
            raise InputError(
                f"a DataLoader worker was killed ({text[:120]}), probably out of memory: lower data.num_workers or "
                f"data.prefetch; {_FEW}"
            ) from error
        raise
