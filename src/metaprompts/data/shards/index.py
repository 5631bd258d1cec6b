"""What a folder of shards holds: shards.json."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from metaprompts.data.opening import one_line
from metaprompts.data.samples import Split
from metaprompts.errors import InputError
from metaprompts.files import json_line, read_json, write_text
from metaprompts.typed import plain

INDEX_FILE = "shards.json"

_VERSION = 1


class Place(NamedTuple):
    """Where a file lies in a shard.

    Attributes:
        offset: of its first byte
        size: in bytes
        crc32: of its content
    """

    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """A picture in a shard: the files that share a key.

    Attributes:
        key: what their names begin with, up to the first dot
        samples: numbers, in the split, of the samples about this picture: one, or one for each of its people
        members: ending of a file -> where it is
    """

    key: str
    samples: tuple[int, ...]
    members: Mapping[str, Place]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file.

    Attributes:
        file: its name
        size: in bytes
        records: in their order
    """

    file: str
    size: int
    records: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A picture that could not be read, and was to be passed over.

    Attributes:
        key: that its record would have
        samples: that would be about it
        why: what is wrong with it
    """

    key: str
    samples: tuple[int, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class PeopleFacts:
    """What is known of a split of people besides its samples.

    Attributes:
        annotations: name of the copy of the annotation file
        joint_names: the J joints in order
        skeleton: pairs of joint indices
    """

    annotations: str
    joint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class SplitIndex:
    """The shards of a split.

    Attributes:
        samples: in the split, those left out as well
        is_whole: whether all are written
        people: of a split of people
        shards: in their order
        left_out: what is in none of them
    """

    samples: int
    is_whole: bool = False
    people: PeopleFacts | None = None
    shards: tuple[Shard, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What shards were made from, and how.

    Attributes:
        task: of the recipe
        classes: how many; None where the task has none
        class_names: of them; None where the task has none, and in shards of earlier versions
        shard_bytes: size from which on a shard is closed
        data: the recipe's data section, as far as it decides what samples there are
    """

    task: str
    classes: int | None
    shard_bytes: int
    data: Mapping[str, Any]
    class_names: tuple[str, ...] | None = None

    @property
    def root(self) -> Path:
        """Folder that the samples' paths are relative to."""
        return Path(self.data["root"])


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """All of a folder of shards.

    Attributes:
        origin: what it was made from
        splits: those that were begun
    """

    origin: Origin
    splits: Mapping[Split, SplitIndex] = field(default_factory=dict)


def read_index(folder: Path) -> ShardIndex:
    """Read shards.json.

    Raises:
        InputError: it is missing, damaged or of another version
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {INDEX_FILE}: give a folder that metaprompts data shard wrote")
    values = read_json(path)
    version = values.get("version") if isinstance(values, dict) else None
    if version != _VERSION:
        raise InputError(f"{path} is of version {version}, not {_VERSION}: write the shards anew")
    with _parsing(path):
        splits = {name: _split(split) for name, split in values["splits"].items()}
        return ShardIndex(origin=_origin(values["origin"]), splits=splits)


def write_index(folder: Path, index: ShardIndex) -> None:
    """Write shards.json, whole or not at all.

    Raises:
        InputError: it cannot be written
    """
    write_text(folder / INDEX_FILE, json_line({"version": _VERSION, **plain(index)}))


def read_part(path: Path) -> tuple[Shard, tuple[LeftOut, ...]]:
    """Read what `write_part` wrote.

    Raises:
        InputError: the file is damaged
    """
    values = read_json(path)
    with _parsing(path):
        return _shard(values["shard"]), _left_out(values["left_out"])


def write_part(path: Path, shard: Shard, left_out: tuple[LeftOut, ...]) -> None:
    """Write down one shard of an unfinished split.

    Args:
        path: of the file
        shard: that is finished
        left_out: all that the split has left out up to its end

    Raises:
        InputError: it cannot be written
    """
    write_text(path, json_line({"shard": plain(shard), "left_out": plain(left_out)}))


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}): copy it again, or write the shards anew") from error


def _origin(values: Mapping[str, Any]) -> Origin:
    names = values.get("class_names")
    origin = Origin(**{**values, "class_names": None if names is None else tuple(map(str, names))})
    _ = origin.root
    return origin


def _split(values: Mapping[str, Any]) -> SplitIndex:
    people = values["people"]
    return SplitIndex(
        samples=int(values["samples"]),
        is_whole=bool(values["is_whole"]),
        people=None if people is None else _people(people),
        shards=tuple(map(_shard, values["shards"])),
        left_out=_left_out(values["left_out"]),
    )


def _people(values: Mapping[str, Any]) -> PeopleFacts:
    return PeopleFacts(
        annotations=str(values["annotations"]),
        joint_names=tuple(values["joint_names"]),
        skeleton=tuple((start, end) for start, end in values["skeleton"]),
    )


def _shard(values: Mapping[str, Any]) -> Shard:
    return Shard(file=str(values["file"]), size=int(values["size"]), records=tuple(map(_record, values["records"])))


def _record(values: Mapping[str, Any]) -> Record:
    members = {ending: Place(*map(int, place)) for ending, place in values["members"].items()}
    return Record(key=str(values["key"]), samples=tuple(map(int, values["samples"])), members=members)


def _left_out(values: Any) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(key=each["key"], samples=tuple(each["samples"]), why=each["why"]) for each in values)
