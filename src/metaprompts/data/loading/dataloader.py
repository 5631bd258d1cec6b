"""Load samples in batches, optionally with worker processes, whose errors are reported on one line."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from torch.utils.data import DataLoader, Dataset

from metaprompts.data.datasets.transformed import quiet_opencv
from metaprompts.errors import InputError

S = TypeVar("S", covariant=True)
G = TypeVar("G")

# The libraries' own files, and for each process its pipes and the tensors in transit.
_FILES, _FILES_OF_GROUP = 128, 16
_FEW = "data.num_workers 0 reads in the main process"


class Samples(Protocol[S]):
    """A map-style data set."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> S:
        """Read one sample."""
        ...


class Reader(Generic[G]):
    """A DataLoader that raises the samples' own errors, even from worker processes.

    Args:
        samples: the data set to read
        collate: combines samples into a group
        workers: number of reader processes; 0 reads in this process
        options: further DataLoader arguments
    """

    def __init__(
        self, samples: Samples[Any], collate: Callable[[list[Any]], G], *, workers: int, **options: Any
    ) -> None:
        check_open_files(workers, options.get("prefetch_factor") or 2)
        self._loader: DataLoader[Any] = DataLoader(
            _Outcomes(samples),
            collate_fn=_Collate(collate),
            num_workers=workers,
            worker_init_fn=_prepare_reader,
            **options,
        )

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._loader)

    def __iter__(self) -> Iterator[G]:
        """Yield the groups.

        Raises:
            InputError: a file is invalid, or a worker was killed or could not transfer its data
        """
        groups = iter(self._loader)
        while True:
            with naming_lost_workers():
                try:
                    group = next(groups)
                except StopIteration:
                    return
            if isinstance(group, InputError):
                raise group
            yield group


class _Outcomes(Dataset[Any]):
    """Returns errors instead of raising them: a DataLoader would put worker tracebacks into the error message."""

    def __init__(self, samples: Samples[Any]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Any:
        try:
            return self._samples[index]
        except InputError as error:
            return error


class _Collate:
    """A batch of samples, or the error of the first unreadable one."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, outcomes: list[Any]) -> Any:
        errors = [outcome for outcome in outcomes if isinstance(outcome, InputError)]
        return errors[0] if errors else self._collate(outcomes)


def _prepare_reader(worker: int) -> None:
    # A terminal or a cluster may send its signals to every process: the main process ends the workers after saving its
    # state, without their tracebacks. If the main process is killed, the workers exit on their own.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    quiet_opencv(worker)


def check_open_files(workers: int, prefetch: int) -> None:
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
