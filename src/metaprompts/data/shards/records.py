"""Read and encode the images of a data set as shard records, with several processes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from metaprompts.data.datasets.held_out import SubsetOfPeople
from metaprompts.data.datasets.keypoints import CocoKeypoints
from metaprompts.data.loading import Reader
from metaprompts.data.sample import SampleDataset
from metaprompts.data.shards.codec import Members, encode
from metaprompts.data.shards.index import LeftOut
from metaprompts.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A record before encoding.

    Attributes:
        key: common part of its files' names
        samples: see `Record`
        members: files of the record
    """

    key: str
    samples: tuple[int, ...]
    members: Members


def groups_of(samples: SampleDataset) -> list[tuple[int, ...]]:
    """The samples of each record: samples of the same image share a record, if that is known without reading the image.

    Returns:
        indices of samples, ordered by the first of each group
    """
    if isinstance(samples, CocoKeypoints | SubsetOfPeople):
        return [tuple(group) for group in samples.by_image()]
    return [(sample,) for sample in range(len(samples))]


def encoded(
    samples: SampleDataset,
    groups: Sequence[tuple[int, ...]],
    *,
    root: Path,
    depth_scale: float | None,
    workers: int,
) -> Iterable[Encoded | LeftOut]:
    """Read and encode groups of samples, in their order.

    Args:
        samples: the data set to read
        groups: see `groups_of`
        root: see `encode`
        depth_scale: see `encode`
        workers: number of worker processes; 0 for this process

    Returns:
        a record of each group, or the reason its image is unreadable
    """
    return Reader(_Records(samples, groups, root, depth_scale), itemgetter(0), workers=workers, batch_size=1)


class _Records:
    def __init__(
        self, samples: SampleDataset, groups: Sequence[tuple[int, ...]], root: Path, depth_scale: float | None
    ) -> None:
        self._samples, self._groups, self._root, self._depth_scale = samples, groups, root, depth_scale

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, place: int) -> Encoded | LeftOut:
        group = self._groups[place]
        key = key_of(group)
        try:
            sample = self._samples[group[0]]
        except InputError as error:
            return LeftOut(key=key, samples=group, why=str(error))
        people = [] if sample.person is None else [sample.person]
        if isinstance(self._samples, CocoKeypoints | SubsetOfPeople):
            people += [self._samples.person(other) for other in group[1:]]
        members = encode(sample, people, root=self._root, depth_scale=self._depth_scale)
        return Encoded(key=key, samples=group, members=members)


def key_of(group: tuple[int, ...]) -> str:
    """The key of a group's record: the index of its first sample."""
    return f"{group[0]:08d}"
