"""Write the samples of a split into shards; repeating an interrupted call resumes it."""

import logging
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from metaprompts.data.datasets.keypoints import People
from metaprompts.data.sample import SampleDataset, Split
from metaprompts.data.shards.index import (
    INDEX_FILE,
    LeftOut,
    Origin,
    PeopleFacts,
    Place,
    Record,
    Shard,
    ShardIndex,
    SplitIndex,
    read_index,
    read_part,
    write_index,
    write_part,
)
from metaprompts.data.shards.records import Encoded, encoded, groups_of, key_of
from metaprompts.errors import InputError
from metaprompts.utils.files import write_whole
from metaprompts.utils.schema import to_dict
from metaprompts.utils.scratch import is_scratch, remove_scratch

logger = logging.getLogger(__name__)

# Metadata of the shards of an unfinished split, one file each.
_PARTS = ".unfinished"
_SHARD = re.compile(r"(train|val)-\d{6}\.tar")


def begin(folder: Path, origin: Origin, *, restart: bool = False) -> None:
    """Create a shard folder, or check that an existing one has the same data.

    Args:
        folder: a new or empty folder, or one started with the same ``origin``
        origin: source and settings of the shards
        restart: discard existing shards

    Raises:
        InputError: the folder has other content, or cannot be written
    """
    is_new = not _is_begun(folder)
    if restart:
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
    if is_new or restart:
        write_index(folder, ShardIndex(origin=origin))
    else:
        _check_same(folder, read_index(folder).origin, origin)
    _remove_leftovers(folder)


def write_split(
    folder: Path,
    split: Split,
    samples: SampleDataset,
    *,
    depth_scale: float | None = None,
    at_most: int | None = None,
    workers: int = 0,
    on_done: Callable[[int], None] = lambda samples: None,
    on_earlier: Callable[[int], None] = lambda samples: None,
) -> SplitIndex:
    """Write the part of a split not written by earlier calls.

    Args:
        folder: a folder prepared by `begin`
        split: the split to write
        samples: samples of the split
        depth_scale: likely number of depth units per meter
        at_most: maximum number of unreadable samples to skip, each named in the log; None to skip none
        workers: number of reader processes; 0 for this process
        on_done: called with the number of newly written samples
        on_earlier: called once with the number of samples written by earlier calls

    Returns:
        the shards written in all calls

    Raises:
        InputError: a sample cannot be read, the folder cannot be written, or the split had a different number of
            samples
    """
    index = read_index(folder)
    begun = _begun(folder, split, index, samples)
    groups = groups_of(samples)
    remaining = _remaining(groups, begun)
    on_earlier(sum(map(len, groups)) - sum(map(len, remaining)))
    if begun.is_whole:
        # The call that finished the split may have been killed before its cleanup.
        _remove_parts(folder, split)
        return begun
    write_index(folder, _with_split(index, split, begun))
    shards, left_out = list(begun.shards), list(begun.left_out)
    records = encoded(samples, remaining, root=index.origin.root, depth_scale=depth_scale, workers=workers)
    good = _good(records, left_out, at_most, len(samples), on_done)
    # Each iteration writes one shard, beginning with this record.
    for first in good:
        path = _shard_path(folder, split, len(shards))
        with write_whole(path) as scratch:
            shards.append(write_tar(scratch, path.name, chain([first], good), index.origin.shard_bytes))
        write_part(_part_path(path), shards[-1], tuple(left_out))
    finished = replace(begun, is_whole=True, shards=tuple(shards), left_out=tuple(left_out))
    write_index(folder, _with_split(index, split, finished))
    _remove_parts(folder, split)
    return finished


def _is_begun(folder: Path) -> bool:
    try:
        found = [path for path in folder.iterdir() if not is_scratch(path)]
    except FileNotFoundError:
        return False
    except NotADirectoryError as error:
        raise InputError(f"{folder} is not a folder: give a new or empty one") from error
    if found and not (folder / INDEX_FILE).is_file():
        raise InputError(f"{folder} is not empty and holds no {INDEX_FILE}: give a new or empty folder")
    return bool(found)


def _check_same(folder: Path, found: Origin, expected: Origin) -> None:
    came, new = _flat(found), _flat(expected)
    if differing := sorted(key for key in {*came, *new} if came.get(key) != new.get(key)):
        raise InputError(
            f"{folder} holds shards that differ in {', '.join(differing)}: use the same value, choose another --out, "
            "or pass --resume never to discard them"
        )


def _flat(origin: Origin) -> dict[str, Any]:
    """Flatten the values to user-facing names."""
    named: dict[str, Any] = {
        "task": origin.task,
        "number of classes": origin.classes,
        "task.classes": origin.class_names,
        "--shard-bytes": origin.shard_bytes,
    }
    return named | {f"data.{key}": value for key, value in to_dict(origin.data).items()}


def _remove_leftovers(folder: Path) -> None:
    """Remove leftover files of a killed or discarded writer."""
    known = {shard.file for split in read_index(folder).splits.values() for shard in split.shards}
    known |= {path.with_suffix(".tar").name for path in (folder / _PARTS).glob("*.json")}
    remove_scratch(folder, deep=True)
    for path in folder.iterdir():
        if _SHARD.fullmatch(path.name) and path.name not in known:
            path.unlink(missing_ok=True)


def _begun(folder: Path, split: Split, index: ShardIndex, samples: SampleDataset) -> SplitIndex:
    """The finished shards of a split, up to the first one that is missing or has the wrong size."""
    found = index.splits.get(split) or SplitIndex(samples=len(samples))
    if found.samples != len(samples):
        raise InputError(
            f"{folder} has shards of {found.samples} {split} samples, but the data now has {len(samples)}: "
            "choose another --out, or pass --resume never to discard the shards"
        )
    found = replace(found, people=_people(folder, split, samples, is_new=split not in index.splits))
    shards = list(takewhile(lambda shard: _is_there(folder, shard), found.shards))
    if found.is_whole and len(shards) == len(found.shards):
        return found
    left_out = found.left_out
    while (part := _part(folder, split, len(shards))) is not None:
        shards.append(part[0])
        left_out = part[1]
    last = shards[-1].records[-1].key if shards else ""
    left_out = tuple(each for each in left_out if each.key < last)
    return replace(found, is_whole=False, shards=tuple(shards), left_out=left_out)


def _people(folder: Path, split: Split, samples: SampleDataset, *, is_new: bool) -> PeopleFacts | None:
    """Metadata of people in addition to samples; evaluation needs the annotation file itself."""
    if not isinstance(samples, People):
        return None
    path = folder / f"{split}_annotations.json"
    if is_new or not path.is_file():
        with write_whole(path) as scratch:
            shutil.copyfile(samples.annotation_path, scratch)
    return PeopleFacts(annotations=path.name, joint_names=samples.joint_names, skeleton=samples.skeleton)


def _part(folder: Path, split: Split, number: int) -> tuple[Shard, tuple[LeftOut, ...]] | None:
    path = _part_path(_shard_path(folder, split, number))
    # Rewriting a shard is quick.
    with suppress(InputError):
        shard, left_out = read_part(path)
        return (shard, left_out) if _is_there(folder, shard) else None
    return None


def _is_there(folder: Path, shard: Shard) -> bool:
    path = folder / shard.file
    return path.is_file() and path.stat().st_size == shard.size


def _remaining(groups: list[tuple[int, ...]], begun: SplitIndex) -> list[tuple[int, ...]]:
    """The groups that are neither written nor skipped."""
    if begun.is_whole:
        return []
    last = begun.shards[-1].records[-1].key if begun.shards else ""
    return [group for group in groups if key_of(group) > last]


def _good(
    records: Iterable[Encoded | LeftOut],
    left_out: list[LeftOut],
    at_most: int | None,
    samples: int,
    on_done: Callable[[int], None],
) -> Iterator[Encoded]:
    """Yield the readable records, and add the others to ``left_out``."""
    for record in records:
        if isinstance(record, Encoded):
            yield record
        else:
            left_out.append(record)
            bad = sum(len(each.samples) for each in left_out)
            if at_most is None:
                raise InputError(record.why)
            if bad > min(at_most, samples - 1):
                raise InputError(
                    f"{bad} of {samples} samples cannot be read, but data.max_bad_samples is {at_most}; the last: "
                    f"{record.why}"
                )
            logger.warning("skipped %d of %d samples: %s", len(record.samples), samples, record.why)
        on_done(len(record.samples))


def write_tar(scratch: Path, name: str, records: Iterable[Encoded], shard_bytes: int | None = None) -> Shard:
    """Write records into a tar file.

    Args:
        scratch: the file to write
        name: the file's final name
        records: the records in order
        shard_bytes: number of bytes after which no further record is written; None to write all records
    """
    samples, checksums = dict[str, tuple[int, ...]](), dict[str, int]()
    with tarfile.open(scratch, "w", format=tarfile.USTAR_FORMAT) as tar:
        for record in records:
            samples[record.key] = record.samples
            for ending, content in record.members.items():
                info = tarfile.TarInfo(f"{record.key}.{ending}")
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
                checksums[info.name] = zlib.crc32(content)
            if shard_bytes is not None and tar.offset >= shard_bytes:
                break
    members: dict[str, dict[str, Place]] = {key: {} for key in samples}
    # Read the positions from the file itself: every reader finds members where tarfile finds them.
    with tarfile.open(scratch) as tar:
        for info in tar:
            key, _, ending = info.name.partition(".")
            members[key][ending] = Place(info.offset_data, info.size, checksums[info.name])
    found = tuple(Record(key=key, samples=samples[key], members=members[key]) for key in samples)
    return Shard(file=name, size=scratch.stat().st_size, records=found)


def _with_split(index: ShardIndex, split: Split, found: SplitIndex) -> ShardIndex:
    return replace(index, splits={**index.splits, split: found})


def _shard_path(folder: Path, split: Split, number: int) -> Path:
    return folder / f"{split}-{number:06d}.tar"


def _part_path(shard: Path) -> Path:
    return shard.parent / _PARTS / f"{shard.stem}.json"


def _remove_parts(folder: Path, split: Split) -> None:
    parts = folder / _PARTS
    for path in parts.glob(f"{split}-*.json"):
        path.unlink()
    # Files of another split may remain.
    with suppress(OSError):
        parts.rmdir()
