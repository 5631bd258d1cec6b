"""The samples of a split, read from its shards in any order."""

import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from metaprompts.data.datasets.keypoints import People
from metaprompts.data.datasets.label_histogram import values_of_labels
from metaprompts.data.io.label_tables import LabelValue
from metaprompts.data.sample import IGNORED_LABEL, Sample, Split
from metaprompts.data.shards.codec import CONFIDENCE, LABELS, Members, decode, decode_labels, is_uncertain, path_in
from metaprompts.data.shards.index import FACTS, INDEX_FILE, Place, Record, Shard, ShardIndex, SplitIndex
from metaprompts.errors import InputError, one_line
from metaprompts.utils.wording import counted

logger = logging.getLogger(__name__)

_CURE = "copy it again, or delete it and run the same metaprompts data shard command to write it again"
_OPEN_AT_MOST = 64


class ShardedSamples:
    """The samples of a split, equal to those read from its folders, in the same order.

    A skipped sample is replaced with the next one, as in a run that skips bad samples.

    Args:
        folder: folder of the shards
        index: index of the folder
        split: the split to read
        checks_files: whether to check at the start that all shards exist, or only on reading
        min_confidence: predicted pixels and joints below this confidence have no label; samples left without labels are
            dropped, and their number is logged

    Attributes:
        shards: the shards in order
        left_out: skipped images, which no shard contains

    Raises:
        InputError: the split is unfinished, a shard is missing or has the wrong size, or all samples are dropped
    """

    def __init__(
        self,
        folder: Path,
        index: ShardIndex,
        split: Split,
        *,
        checks_files: bool = True,
        min_confidence: float | None = None,
    ) -> None:
        found = index.splits[split]
        if not found.is_whole:
            raise InputError(
                f"the {split} shards in {folder} are not finished: run the same metaprompts data shard command again "
                "to resume"
            )
        self.shards, self.left_out = found.shards, found.left_out
        self._folder, self._root = folder, index.origin.root
        self._min_confidence = min_confidence
        self._places = _places(found, folder)
        if min_confidence is not None:
            self._places = _certain(self._places, min_confidence, folder)
        self._files = _OpenFiles()
        for shard in self.shards if checks_files else ():
            _check_shard_size(folder / shard.file, shard)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            IndexError: no such sample
            InputError: the shard is missing or damaged
        """
        with self._decoding(index) as (members, person):
            return decode(members, person, root=self._root, min_confidence=self._min_confidence)

    def path(self, index: int) -> str:
        """The path of a sample's image in the data set.

        Raises:
            InputError: the shard is missing or damaged
        """
        with self._decoding(index, FACTS) as (members, _):
            return path_in(members[FACTS], root=self._root)

    def files(self, index: int) -> tuple[Path, ...]:
        """The shard of a sample."""
        return (self._folder / self._places[range(len(self))[index]][0].file,)

    def label_values(self, index: int) -> list[LabelValue]:
        """The labels of one mask and their pixels; the image is not read.

        Raises:
            InputError: the shard is missing or damaged
        """
        _, record, _ = self._places[range(len(self))[index]]
        if LABELS not in record.members:
            return []
        endings = (LABELS,) if self._min_confidence is None else (LABELS, CONFIDENCE)
        with self._decoding(index, *endings) as (members, _):
            labels = decode_labels(members[LABELS])
            if self._min_confidence is not None:
                labels[is_uncertain(members, self._min_confidence)] = IGNORED_LABEL
            return values_of_labels(labels)

    @contextmanager
    def _decoding(self, index: int, *endings: str) -> Iterator[tuple[Members, int]]:
        """Read the files of a sample with these endings, or all, and its index among the record's people."""
        shard, record, person = self._places[range(len(self))[index]]
        path, chosen = self._folder / shard.file, endings or record.members
        members = {ending: self._read(path, f"{record.key}.{ending}", record.members[ending]) for ending in chosen}
        try:
            yield members, person
        # The checksums match, so the content is invalid.
        except Exception as error:
            raise InputError(f"sample {record.key} of shard {path} cannot be decoded ({one_line(error)})") from error

    def _read(self, path: Path, name: str, place: Place) -> bytes:
        where = f"{name} of shard {path}"
        try:
            content = self._files.read(path, place.offset, place.size)
        except OSError as error:
            raise InputError(f"{where} cannot be read ({error.strerror}): {_CURE}") from error
        if len(content) < place.size:
            raise InputError(f"{where} is truncated: {_CURE}")
        if zlib.crc32(content) != place.crc32:
            raise InputError(f"{where} is damaged: {_CURE}")
        return content


class ShardedPeople(ShardedSamples, People):
    """The people of a split, and their annotation file.

    Args:
        folder: as for `ShardedSamples`
        index: as for `ShardedSamples`
        split: split of people
        options: as for `ShardedSamples`

    Raises:
        InputError: the split is not finished, or a file is missing
    """

    def __init__(self, folder: Path, index: ShardIndex, split: Split, **options: Any) -> None:
        super().__init__(folder, index, split, **options)
        facts = index.splits[split].people
        assert facts is not None, "open_shards uses this class only for people"
        self.annotation_path = folder / facts.annotations
        self.joint_names = facts.joint_names
        self.skeleton = facts.skeleton
        if not self.annotation_path.is_file():
            raise InputError(f"annotation file {self.annotation_path} does not exist: {_CURE}")

    def files(self, index: int) -> tuple[Path, ...]:
        """The shard of a person, and the annotation file used for scoring."""
        return (*super().files(index), self.annotation_path)


def open_shards(folder: Path, index: ShardIndex, split: Split, **options: Any) -> ShardedSamples:
    """Open a split as `ShardedPeople` if it has people, else as `ShardedSamples`; ``options`` are passed on."""
    kind = ShardedSamples if index.splits[split].people is None else ShardedPeople
    return kind(folder, index, split, **options)


def _places(split: SplitIndex, folder: Path) -> list[tuple[Shard, Record, int]]:
    """Shard, record and index among the record's people, for each sample."""
    found = {
        sample: (shard, record, person)
        for shard in split.shards
        for record in shard.records
        for person, sample in enumerate(record.samples)
    }
    missing = {sample for each in split.left_out for sample in each.samples}
    numbers = found.keys() | missing
    # Count the listed samples: a range as long as the file claims could exhaust memory.
    if not found or len(numbers) != split.samples or max(numbers) >= split.samples:
        raise InputError(f"{folder / INDEX_FILE} is damaged (samples are missing): write the shards again")
    following = found[min(found)]
    places = []
    for sample in reversed(range(split.samples)):
        following = found.get(sample, following)
        places.append(following)
    return places[::-1]


def _certain(
    places: list[tuple[Shard, Record, int]], min_confidence: float, folder: Path
) -> list[tuple[Shard, Record, int]]:
    """The samples with at least one pixel or joint of the given confidence; all if the shards record no confidence."""
    kept = [
        (shard, record, person)
        for shard, record, person in places
        if not record.confidence or record.confidence[person] >= min_confidence
    ]
    dropped = len(places) - len(kept)
    said = f"{dropped} of {counted(len(places), 'sample')} in {folder} have no pixel or joint of confidence "
    said += f"{min_confidence:g} or more"
    if not kept:
        raise InputError(f"{said}: lower data.min_confidence")
    if dropped:
        logger.warning("%s: dropped", said)
    return kept


def _check_shard_size(path: Path, shard: Shard) -> None:
    where = f"shard {path} (samples {shard.records[0].key} to {shard.records[-1].key})"
    if not path.is_file():
        raise InputError(f"{where} does not exist: {_CURE}")
    if (size := path.stat().st_size) != shard.size:
        raise InputError(f"{where} has {size} bytes; expected {shard.size}: {_CURE}")


class _OpenFiles:
    """Reads pieces of files, which stay open between reads; pickled or forked copies open the files themselves."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._files: dict[Path, BinaryIO] = {}

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read a piece of a file.

        Returns:
            ``size`` bytes from ``offset`` on, fewer if the file ends earlier

        Raises:
            OSError: the file cannot be read
        """
        file = self._opened(path)
        file.seek(offset)
        # A read allocates the requested size first.
        return file.read(max(min(size, os.fstat(file.fileno()).st_size - offset), 0))

    def _opened(self, path: Path) -> BinaryIO:
        if self._process != os.getpid():
            # A forked process shares file positions with its parent, so each would move the other's.
            self._process, self._files = os.getpid(), {}
        if path not in self._files:
            if len(self._files) == _OPEN_AT_MOST:
                self._files.pop(next(iter(self._files))).close()
            self._files[path] = path.open("rb")
        return self._files[path]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def __del__(self) -> None:
        for file in self._files.values():
            file.close()
