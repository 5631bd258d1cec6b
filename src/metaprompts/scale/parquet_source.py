"""Images in the rows of parquet files, as bytes or as paths."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError, one_line
from metaprompts.scale.storage import is_url, local_copy

_BYTES, _PATHS = ("bytes", "image", "image_bytes", "jpg", "png"), ("path", "url", "image", "file_name", "file")
_BATCH = 4096


def pyarrow() -> Any:
    """Import pyarrow with its parquet module.

    Raises:
        InputError: pyarrow is not installed
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("parquet needs pyarrow: pip install 'metaprompts[label]', or pass --format tar") from error
    return pyarrow


def parquet_rows(file: str) -> Iterator[tuple[str, str, int]]:
    """Yield the name, the file and the row of each image of a parquet file.

    Rows with the image's bytes are in the file itself; for rows with a path or URL, ``row`` is -1 and ``file`` is that
    path, relative to the parquet file's folder.

    Args:
        file: path or URL

    Raises:
        InputError: the file cannot be read, or has no column of bytes or paths
    """
    with local_copy(file) as path:
        table = _opened(path, file)
        has_bytes, names = _columns(table.schema_arrow, file)
        folder = file.rpartition("/")[0]
        values = _texts(table, names) if names else (f"{file}#{row}" for row in range(table.metadata.num_rows))
        for row, name in enumerate(values):
            if has_bytes:
                yield name, file, row
            else:
                is_whole = is_url(name) or name.startswith("/") or not folder
                yield name, name if is_whole else f"{folder}/{name}", -1


def _texts(table: Any, column: str) -> Iterator[str]:
    for batch in table.iter_batches(_BATCH, columns=[column]):
        yield from (value or "" for value in batch.column(0).to_pylist())


def read_rows(file: str, rows: Sequence[int]) -> Iterator[bytes]:
    """Yield the bytes of some rows of a parquet file, given in increasing order.

    Raises:
        InputError: the file cannot be read
    """
    with local_copy(file) as path:
        table = _opened(path, file)
        schema = table.schema_arrow
        column = next(name for name in _BYTES if _is_bytes(schema, name))
        first = 0
        for group in range(table.num_row_groups):
            end = first + table.metadata.row_group(group).num_rows
            if wanted := [row - first for row in rows if first <= row < end]:
                values = table.read_row_group(group, columns=[column]).column(0)
                for place in wanted:
                    value = values[place].as_py()
                    yield (value.get("bytes") if isinstance(value, dict) else value) or b""
            first = end


def _opened(path: Path, file: str) -> Any:
    try:
        return pyarrow().parquet.ParquetFile(path)
    except InputError:
        raise
    except Exception as error:  # pyarrow raises its own error types
        raise InputError(f"{file} is not a readable parquet file: {one_line(error)}") from error


def _columns(schema: Any, file: str) -> tuple[bool, str | None]:
    """Whether the file has a column of bytes, and which column names the images."""
    has_bytes = any(_is_bytes(schema, name) for name in _BYTES)
    types = pyarrow().types
    texts = [name for name in _PATHS if name in schema.names and _is_text(types, schema.field(name).type)]
    if not has_bytes and not texts:
        raise InputError(
            f"{file} has the columns {', '.join(schema.names)}; expected the images as binary in {', '.join(_BYTES)}, "
            f"or their paths in {', '.join(_PATHS)}"
        )
    return has_bytes, texts[0] if texts else None


def _is_text(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_bytes(schema: Any, name: str) -> bool:
    """Whether a column has bytes, or structs with bytes, as data sets on the hub do."""
    if name not in schema.names:
        return False
    types, kind = pyarrow().types, schema.field(name).type
    if types.is_struct(kind):
        inner = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
        kind = inner.get("bytes")
    return kind is not None and bool(types.is_binary(kind) or types.is_large_binary(kind))
