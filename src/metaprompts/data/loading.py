"""Load samples in batches of varying shape with worker processes; their errors are reported on one line."""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from metaprompts.errors import InputError

G = TypeVar("G")
Tensors = Mapping[str, Tensor]

# The libraries' own files, and for each process its pipes and the tensors in transit.
_FILES, _FILES_OF_GROUP = 128, 16
_FEW = "data.num_workers 0 reads in the main process"


class Samples(Protocol):
    """A map-style data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Reader(Generic[G]):
    """A DataLoader that raises the samples' own errors, even from worker processes.

    Args:
        samples: the data set to read
        collate: combines samples into a group
        workers: number of reader processes; 0 reads in this process
        options: further DataLoader arguments
    """

    def __init__(self, samples: Samples, collate: Callable[[list[Any]], G], *, workers: int, **options: Any) -> None:
        check_open_files(workers, options.get("prefetch_factor") or 2)
        self._loader: DataLoader[Any] = DataLoader(
            _Outcomes(samples),
            collate_fn=_Collate(collate),
            num_workers=workers,
            worker_init_fn=prepare_reader,
            **options,
        )

    def __len__(self) -> int:
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

    def __init__(self, samples: Samples) -> None:
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


def prepare_reader(worker: int) -> None:
    """Prepare a reader process, for DataLoader's ``worker_init_fn``: no signals, and one thread for OpenCV."""
    del worker
    # A terminal or a cluster may send its signals to every process: the main process ends the workers after saving its
    # state, without their tracebacks. If the main process is killed, the workers exit on their own.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)


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


class Groups(Protocol):
    """Lists of samples, as from a DataLoader without collation."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sequence[Tensors]]: ...


class ShapeBatches(Iterable[dict[str, Tensor]]):
    """The samples of each list as one batch per tensor shape.

    Args:
        groups: lists of samples
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def __len__(self) -> int:
        """Return the number of lists, a lower bound on the number of batches."""
        return len(self._groups)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches."""
        for samples in self._groups:
            for places in places_by_shape(samples):
                yield stack([samples[place] for place in places])


def places_by_shape(samples: Sequence[Tensors]) -> list[list[int]]:
    """The indices of samples grouped by tensor shapes; order is kept."""
    found: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, tensors in enumerate(samples):
        shapes = tuple(tuple(tensor.shape) for _, tensor in sorted(tensors.items()))
        found.setdefault(shapes, []).append(place)
    return list(found.values())


def stack(samples: Sequence[Tensors]) -> dict[str, Tensor]:
    """Stack tensors (...) of samples to (B, ...)."""
    return {name: torch.stack([tensors[name] for tensors in samples]) for name in samples[0]}
