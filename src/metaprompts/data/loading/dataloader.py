"""Load samples in batches, optionally with worker processes."""

import signal
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from torch.utils.data import DataLoader, Dataset

from metaprompts.data.datasets.transformed import quiet_opencv
from metaprompts.data.loading.loader_limits import check_open_files, read_all
from metaprompts.errors import InputError

S = TypeVar("S", covariant=True)
G = TypeVar("G")


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
            InputError: a file is invalid
        """
        for group in read_all(self._loader):
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
