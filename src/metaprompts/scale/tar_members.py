"""List the files in a tar file: several times faster than tarfile, which takes a minute for a million files."""

import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

_BLOCK = 512
_FILES, _PAX = (b"0", b"\0"), b"x"
# Keys of extended headers that change nothing here: writers of WebDataset give every file its time to the nanosecond.
_UNUSED = {b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"}


class Member(NamedTuple):
    """A file in a tar file.

    Attributes:
        name: its name
        at: offset of its content
        size: bytes of its content
    """

    name: str
    at: int
    size: int


def tar_members(file: IO[bytes]) -> Iterator[Member]:
    """Yield the files in order.

    Ordinary headers are parsed here; tarfile continues from the first one that is unusual.

    Args:
        file: an open, uncompressed tar file

    Raises:
        tarfile.TarError: it is not a tar file, or is truncated
    """
    begin = at = 0
    path: str | None = None
    while (header := _ordinary(_block(file, at))) is not None:
        kind, name, size = header
        content, at = at + _BLOCK, at + _BLOCK + -(-size // _BLOCK) * _BLOCK
        if kind == _PAX:
            values = _extended(file.read(size))
            if values is None or not values.keys() <= _UNUSED | {b"path"}:
                break
            path = values[b"path"].decode("utf-8", "surrogateescape") if b"path" in values else None
            continue
        yield Member(name if path is None else path, content, size)
        begin, path = at, None
    file.seek(begin)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (info := tar.next()) is not None:
            # Otherwise the file's members would pile up in memory.
            tar.members.clear()  # type: ignore[attr-defined]
            if info.isreg():
                yield Member(info.name, info.offset_data, info.size)


def _block(file: IO[bytes], at: int) -> bytes:
    file.seek(at)
    block = file.read(_BLOCK)
    is_cut = 0 < len(block) < _BLOCK
    if not block and at:
        # Seeking beyond the end is not an error.
        file.seek(at - 1)
        is_cut = not file.read(1)
    if is_cut:
        raise tarfile.ReadError("unexpected end of data")
    return block


def _ordinary(block: bytes) -> tuple[bytes, str, int] | None:
    """The kind, name and size in the header of an ordinary file, or an extended header; None for anything else."""
    kind = block[156:157]
    if len(block) < _BLOCK or kind not in (*_FILES, _PAX):
        return None
    try:
        size, checksum = _octal(block[124:136]), _octal(block[148:156])
    except ValueError:
        return None
    # The checksum is computed with eight spaces in its place.
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        return None
    name, prefix = (part.partition(b"\0")[0] for part in (block[:100], block[345:500]))
    if name.endswith(b"/"):
        return None
    whole = prefix + b"/" + name if prefix else name
    return kind, whole.decode("utf-8", "surrogateescape"), size


def _octal(digits: bytes) -> int:
    """Parse an octal number in a header; raises ValueError if it is damaged, or too large for octal digits."""
    plain = digits.strip(b" \0") or b"0"
    if not plain.isdigit():
        raise ValueError(plain)
    return int(plain, 8)


def _extended(content: bytes) -> dict[bytes, bytes] | None:
    """The values of an extended header: lines "LENGTH KEY=VALUE"; None if they are damaged."""
    values, at = {}, 0
    while at < len(content):
        digits, _, rest = content[at:].partition(b" ")
        if not digits.isdigit() or not int(digits):
            return None
        key, equals, value = content[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if not equals or not rest:
            return None
        values[key], at = value, at + int(digits)
    return values
