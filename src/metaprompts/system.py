"""What the system says of this process, of its memory, and of what is installed."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

_KIB = 2**10


def held_bytes() -> int:
    """Resident memory of this process in bytes; where the system does not say, its peak."""
    return _of_process("VmRSS")


def peak_bytes() -> int:
    """Peak resident memory of this process in bytes so far."""
    return _of_process("VmHWM")


def memory_bytes(what: Literal["MemTotal", "MemAvailable"]) -> int | None:
    """All of the system's memory in bytes, or what can be taken without swapping; None where it does not say."""
    found = fact(Path("/proc/meminfo"), what)
    return None if found is None else int(found.split()[0]) * _KIB


def package_version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def fact(path: Path, key: str) -> str | None:
    """What follows ``key:`` in a file of the system; None if there is no such file or line."""
    if not path.exists():
        return None
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), None)


def _of_process(what: str) -> int:
    # Unlike getrusage's, this peak does not begin with the parent's.
    if found := fact(Path("/proc/self/status"), what):
        return int(found.split()[0]) * _KIB
    # Not everywhere to be had.
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else _KIB)
