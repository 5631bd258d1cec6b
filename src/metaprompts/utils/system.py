"""Facts from the operating system: the process, memory, and installed packages."""

import ctypes
import mmap
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

_KIB = 2**10
_CPUINFO = Path("/proc/cpuinfo")
_MAPS, _SMAPS, _STATM = (Path("/proc/self") / name for name in ("maps", "smaps", "statm"))
# First and last address, permissions, offset, device, inode (0 for no file), path; the longer list also has how much
# was written since.
_MAPPING = rb"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ [1-9]\d* +(\S.*)\n"
_LISTED = re.compile(_MAPPING, re.MULTILINE)
_DETAILED = re.compile(_MAPPING + rb"(?:\w+:.*\n)*?Anonymous: +(\d+) kB", re.MULTILINE)
_WORTH_RELEASING = 2**24
_RELEASE_FROM = 2**28
_LOOK_EVERY_S = 0.02
_MADV_DONTNEED = 4


def held_bytes() -> int:
    """Current resident memory of this process in bytes; its peak if the system does not report the current amount."""
    return _of_process("VmRSS")


def peak_bytes() -> int:
    """Peak resident memory of this process in bytes so far."""
    return _of_process("VmHWM")


def memory_bytes(what: Literal["MemTotal", "MemAvailable"]) -> int | None:
    """The system's total memory in bytes, or the memory available without swapping; None if unknown."""
    found = fact(Path("/proc/meminfo"), what)
    return None if found is None else int(found.split()[0]) * _KIB


@contextmanager
def releasing_files() -> Iterator[None]:
    """Periodically, and at the end, release memory of pages read from big mapped files (for example weights).

    Released pages are read again when needed. Writable mappings with changes are skipped, and nothing may write to a
    mapping in the meantime. Does nothing where /proc/self/smaps does not exist.
    """
    if not _SMAPS.exists():
        yield
        return
    ended = threading.Event()

    def release() -> None:
        # Libraries stay mapped.
        least = _file_bytes()
        while not ended.wait(_LOOK_EVERY_S):
            # Disks read gigabytes per second; listing mappings is too slow to do continuously.
            if _file_bytes() > least + _RELEASE_FROM:
                _release_files()
                least = _file_bytes()

    thread = threading.Thread(target=release, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _release_files()


def versions(*packages: str) -> dict[str, str | None]:
    """Package -> version; None for packages that are not installed."""
    found: dict[str, str | None] = dict.fromkeys(packages)
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def fact(path: Path, key: str) -> str | None:
    """The value of ``key:`` in a system file; None if there is no such file or line."""
    if not path.exists():
        return None
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), None)


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor, as Linux names them, for example "avx512_vnni"; empty if unknown."""
    return frozenset((fact(_CPUINFO, "flags") or "").split())


def _file_bytes() -> int:
    """Resident memory of mapped files."""
    return int(_STATM.read_bytes().split()[2]) * mmap.PAGESIZE


def _release_files() -> None:
    # The longer list takes some time to write.
    if not any(_is_big_data(found) for found in _LISTED.findall(_MAPS.read_bytes())):
        return
    madvise = ctypes.CDLL(None).madvise
    for *found, written in _DETAILED.findall(_SMAPS.read_bytes()):
        if _is_big_data(found) and written == b"0":
            start, end = int(found[0], 16), int(found[1], 16)
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def _is_big_data(mapping: Sequence[bytes]) -> bool:
    first, last, permissions, path = mapping
    big = int(last, 16) - int(first, 16) >= _WORTH_RELEASING
    return big and b"x" not in permissions and b".so" not in path


def _of_process(what: str) -> int:
    # Unlike the peak of getrusage, this peak does not start from the parent's.
    if found := fact(Path("/proc/self/status"), what):
        return int(found.split()[0]) * _KIB
    # Not available on every system.
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else _KIB)
