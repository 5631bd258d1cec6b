"""Read zip archives written by torch.save without running any code named in them.

Tensors and plain values are read; objects of training frameworks (Lightning's callbacks, OmegaConf's settings, NumPy's
scores) are skipped. No class or function named in a file is ever resolved, so a file cannot run code, and its memory is
bounded by its own size.
"""

import io
import pickle
import struct
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

MAGIC = b"PK\x03\x04"
"""The first bytes of an archive."""

_PICKLE = "data.pkl"
_LOCAL_HEADER = struct.Struct("<26xHH")
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_DTYPES = {name: each for name, each in vars(torch).items() if isinstance(each, torch.dtype)}
# Modules of the standard library whose objects are data. Other modules occur in a checkpoint only to run code.
_DATA_MODULES = frozenset(
    "_codecs _pydecimal argparse collections copyreg dataclasses datetime decimal enum fractions functools "
    "logging numbers pathlib random threading typing uuid".split()
)
_DATA_BUILTINS = frozenset(
    "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple type".split()
)


class CodeError(pickle.UnpicklingError):
    """A file names a function of the standard library that would have to run."""


class PassedOver:
    """Placeholder for an object of foreign code; ignores all operations on it."""

    def __new__(cls, *values: object, **named: object) -> Self:
        """Ignore constructor arguments."""
        del values, named
        return super().__new__(cls)

    def __init__(self, *values: object, **named: object) -> None:
        del values, named

    def append(self, value: object) -> None:
        """Ignore an item of a list."""

    def extend(self, values: object) -> None:
        """Ignore items of a list."""


def checked_archive(path: Path) -> zipfile.ZipFile:
    """Open an archive, and check that its entries are no larger than the file, because torch.save never compresses.

    Raises:
        ValueError: the file is not an archive, or entries are compressed or overlap (a zip bomb)
        OSError: the file cannot be read
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(str(error)) from error
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        archive.close()
        raise ValueError("its entries are compressed")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        archive.close()
        raise ValueError("its entries are larger than the file")
    return archive


def read_archive(path: Path) -> Any:
    """Read an archive; the tensors stay on disk until they are used, and changing them does not change the file.

    Returns:
        the saved content, with `PassedOver` instead of foreign objects, and only string and integer keys in dicts

    Raises:
        CodeError: the file names code that would have to run
        Exception: the file is damaged; the type depends on where the damage is
    """
    with checked_archive(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        root = next(name for name in entries if name.endswith(f"/{_PICKLE}")).removesuffix(_PICKLE)
        if archive.read(f"{root}byteorder") != sys.byteorder.encode() if f"{root}byteorder" in entries else False:
            raise ValueError("it was written on a machine with a different byte order")
        content = archive.read(root + _PICKLE)
        places = {name.removeprefix(f"{root}data/"): _place(archive, entry) for name, entry in entries.items()}
    size = path.stat().st_size
    file: Any = torch.UntypedStorage.from_file(str(path), False, size)
    return _Reader(content, file, places).load()


def _place(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """The offset and size of an entry's content in the file."""
    file = archive.fp
    assert file is not None
    file.seek(entry.header_offset)
    name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length, entry.file_size


class _Storage:
    """A type of storage."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


def _rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *more: object) -> Tensor:
    del more
    content, dtype = storage
    # PyTorch checks that all elements are inside the storage.
    return torch.empty(0, dtype=dtype).set_(content, offset, tuple(size), tuple(stride))


def _rebuild_tensor_of_type(
    storage: Any, offset: int, size: Any, stride: Any, gradient: object, hooks: object, dtype: Any, *more: object
) -> Tensor:
    del gradient, hooks, more
    return _rebuild_tensor((storage[0], dtype), offset, size, stride)


_MADE: Mapping[str, Any] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_of_type,
    "torch._utils._rebuild_parameter": lambda tensor, *more: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *more: tensor,
    "collections.OrderedDict": dict,
}


class _Reader(pickle._Unpickler):
    """Reads a pickle; the only functions that it calls are those of `_MADE` and `PassedOver`.

    Uses Python's reader, because the C reader can be made to set attributes of objects.

    Args:
        content: the pickle
        file: all bytes of the archive
        places: name of a storage -> its offset and size in ``file``
    """

    # Defined by the base class; repeated for type checkers.
    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, content: bytes, file: torch.UntypedStorage, places: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8", errors="replace")
        self._file, self._places = file, places

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for a global of the file; nothing is imported."""
        # As in Python's own reader: old protocols use Python 2 module names.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _Storage(_STORAGES[name])
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if _is_code(module, name):
            raise CodeError(f"{module}.{name}")
        return _MADE.get(f"{module}.{name}", PassedOver)

    def persistent_load(self, pid: Any) -> tuple[torch.UntypedStorage, torch.dtype]:
        """A storage, which is a part of the file."""
        kind, storage, key, _, numel = pid
        offset, size = self._places[key]
        length = numel * storage.dtype.itemsize
        if kind != "storage" or not 0 <= length <= size:
            raise ValueError(f"storage {key} is larger than its entry")
        return self._file[offset : offset + length], storage.dtype

    def _set_item(self) -> None:
        value = self.stack.pop()
        self._put([self.stack.pop(), value])

    def _make_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._put(items)

    def _make_no_set(self) -> None:
        self.pop_mark()
        self.stack.append(None)

    def _put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is dict:
            # Hashing a deeply nested tuple would overflow the stack.
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update((key, value) for key, value in pairs if type(key) in (str, int))

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: lambda self: self.stack.pop() and None,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: lambda self: self._put(self.pop_mark()),
        pickle.DICT[0]: _make_dict,
        pickle.FROZENSET[0]: _make_no_set,
        pickle.ADDITEMS[0]: lambda self: self.pop_mark() and None,
    }
    for _unused in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.BYTEARRAY8):
        del dispatch[_unused[0]]


def _is_code(module: str, name: str) -> bool:
    """Whether a global of a file belongs to the standard library and is not data."""
    root = module.partition(".")[0]
    if root == "builtins":
        return name not in _DATA_BUILTINS
    return root in sys.stdlib_module_names | {"nt", "posix"} and root not in _DATA_MODULES
