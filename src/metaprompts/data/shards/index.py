"""The index of a shard folder: shards.json."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from metaprompts.data.sample import Split
from metaprompts.errors import InputError, one_line
from metaprompts.utils.files import json_line, read_json, write_text
from metaprompts.utils.schema import to_dict

INDEX_FILE = "shards.json"

FACTS = "json"
"""The extension of the file with an image's path."""

LABELED_BY = "labeled_by"
"""Key of `Origin.data`: the fingerprint of the model whose predictions are the labels, instead of a recipe's files."""

HAS_CONFIDENCE = "has_confidence"
"""Key of `Origin.data`: whether all labels have a confidence."""

VERSION = 1
T = TypeVar("T")


class Place(NamedTuple):
    """The position of a file in a shard.

    Attributes:
        offset: offset of the file's first byte
        size: size in bytes
        crc32: checksum of the content
    """

    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """An image in a shard: the files that share a key.

    Attributes:
        key: common part of the files' names, up to the first dot
        samples: indices, in the split, of this image's samples: one, or one for each person
        members: extension of a file -> its position
        confidence: for predicted labels, the largest confidence of each sample's pixels or joints; else empty
    """

    key: str
    samples: tuple[int, ...]
    members: Mapping[str, Place]
    confidence: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar file.

    Attributes:
        file: name of the file
        size: size in bytes
        records: the images, in order
    """

    file: str
    size: int
    records: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An unreadable image that was skipped.

    Attributes:
        key: the key of its missing record
        samples: indices of its samples
        why: the reason
    """

    key: str
    samples: tuple[int, ...]
    why: str


@dataclass(frozen=True, kw_only=True)
class PeopleFacts:
    """Metadata of a split of people in addition to its samples.

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
        samples: number of samples in the split, including skipped samples
        is_whole: whether all samples are written
        people: metadata of a split of people
        shards: the shards, in order
        left_out: skipped images, which no shard contains
    """

    samples: int
    is_whole: bool = False
    people: PeopleFacts | None = None
    shards: tuple[Shard, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The source and settings of shards.

    Attributes:
        task: the recipe's task
        classes: number of classes; None if the task has none
        class_names: names of the classes; None if the task has none
        shard_bytes: size at which a shard is closed and the next one begins
        data: the recipe's data section, limited to keys that determine the samples
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
    """The index of a shard folder.

    Attributes:
        origin: source and settings
        splits: the splits that are at least partly written
    """

    origin: Origin
    splits: Mapping[Split, SplitIndex] = field(default_factory=dict)


def read_index(folder: Path) -> ShardIndex:
    """Read shards.json.

    Raises:
        InputError: the file is missing, damaged or of a different version
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {INDEX_FILE}: give a folder that metaprompts data shard wrote")
    values = read_json(path)
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise InputError(f"{path} has version {version}; expected {VERSION}: write the shards again")
    with _parsing(path):
        splits: dict[Split, SplitIndex] = {name: _split(split) for name, split in values["splits"].items()}
        if others := splits.keys() - set(get_args(Split)):
            raise ValueError(f"unknown splits {', '.join(others)}")
        return ShardIndex(origin=_origin(values["origin"]), splits=splits)


def write_index(folder: Path, index: ShardIndex) -> None:
    """Write shards.json atomically.

    Raises:
        InputError: the file cannot be written
    """
    write_text(folder / INDEX_FILE, json_line({"version": VERSION, **to_dict(index)}))


def read_part(path: Path) -> tuple[Shard, tuple[LeftOut, ...]]:
    """Read a file written by `write_part`.

    Raises:
        InputError: the file is damaged
    """
    values = read_json(path)
    with _parsing(path):
        return _shard(values["shard"]), _left_out(values["left_out"])


def write_part(path: Path, shard: Shard, left_out: tuple[LeftOut, ...]) -> None:
    """Record one shard of an unfinished split.

    Args:
        path: path of the file
        shard: the finished shard
        left_out: all images of the split that were skipped before the end of this shard

    Raises:
        InputError: the file cannot be written
    """
    write_text(path, json_line({"shard": to_dict(shard), "left_out": to_dict(left_out)}))


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is damaged ({one_line(error)}): copy it again, or write the shards again") from error


def _origin(values: Mapping[str, Any]) -> Origin:
    classes, names, data = values["classes"], values["class_names"], _of(dict, values["data"])
    _of(str, data["root"])
    if others := values.keys() - {each.name for each in fields(Origin)}:
        raise ValueError(f"unknown {', '.join(others)}")
    return Origin(
        task=_of(str, values["task"]),
        classes=None if classes is None else _count(classes),
        class_names=None if names is None else tuple(_of(str, name) for name in _of(list, names)),
        shard_bytes=_count(values["shard_bytes"]),
        data=data,
    )


def _split(values: Mapping[str, Any]) -> SplitIndex:
    people = values["people"]
    found = SplitIndex(
        samples=_count(values["samples"]),
        is_whole=_of(bool, values["is_whole"]),
        people=None if people is None else _people(people),
        shards=tuple(map(_shard, _of(list, values["shards"]))),
        left_out=_left_out(values["left_out"]),
    )
    # Count the listed entries instead of trusting the counts in the file.
    listed = [record.samples for shard in found.shards for record in shard.records]
    listed += [each.samples for each in found.left_out]
    if found.is_whole and sum(map(len, listed)) != found.samples:
        raise ValueError(f"its list does not have {found.samples} samples")
    return found


def _people(values: Mapping[str, Any]) -> PeopleFacts:
    joint_names = tuple(_of(str, name) for name in _of(list, values["joint_names"]))
    skeleton = tuple((_count(start), _count(end)) for start, end in values["skeleton"])
    if any(joint >= len(joint_names) for edge in skeleton for joint in edge):
        raise ValueError("the skeleton names joints that do not exist")
    return PeopleFacts(annotations=_file_name(values["annotations"]), joint_names=joint_names, skeleton=skeleton)


def _shard(values: Mapping[str, Any]) -> Shard:
    file, size = _file_name(values["file"]), _count(values["size"])
    records = tuple(map(_record, _of(list, values["records"])))
    places = [place for record in records for place in record.members.values()]
    if not records or any(place.offset + place.size > size for place in places):
        raise ValueError(f"files of {file} lie outside it")
    return Shard(file=file, size=size, records=records)


def _record(values: Mapping[str, Any]) -> Record:
    members = {ending: Place(*map(_count, place)) for ending, place in _of(dict, values["members"]).items()}
    if FACTS not in members:
        raise ValueError(f"a record has no {FACTS}")
    samples = _numbers(values["samples"])
    if not samples:
        raise ValueError("a record has no samples")
    confidence = tuple(map(float, _of(list, values.get("confidence", []))))
    if confidence and len(confidence) != len(samples):
        raise ValueError(f"a record has {len(confidence)} confidences for {len(samples)} samples")
    return Record(key=_of(str, values["key"]), samples=samples, members=members, confidence=confidence)


def _left_out(values: Any) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(key=_of(str, each["key"]), samples=_numbers(each["samples"]), why=_of(str, each["why"]))
        for each in _of(list, values)
    )


def _of(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} instead of a {kind.__name__}")
    return value


def _count(value: Any) -> int:
    if not 0 <= _of(int, value) < 2**63:
        raise ValueError(f"{str(value)[:40]} instead of a count")
    return int(value)


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(map(_count, _of(list, values)))


def _file_name(value: Any) -> str:
    name = _of(str, value)
    if name != Path(name).name or "\0" in name:
        raise ValueError(f"{name[:40]!r} instead of a file name")
    return name
