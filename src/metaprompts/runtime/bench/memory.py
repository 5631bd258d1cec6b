"""How much memory this process holds, now and at its peak."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _RESTART = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_KIB = 2**10


class MemoryMeter:
    """Resident memory of this process, or what PyTorch has allocated on a CUDA device.

    Args:
        device: where the model is
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None

    def now(self) -> int:
        """Bytes held; where the system does not say, the peak."""
        if self._device is not None:
            return torch.cuda.memory_allocated(self._device)
        return _of_process("VmRSS")

    def peak(self) -> int:
        """Most bytes held since the process or, if `restart` succeeded, that began."""
        if self._device is not None:
            return torch.cuda.max_memory_allocated(self._device)
        return _of_process("VmHWM")

    def restart(self) -> None:
        """Begin a new peak, where the system allows that."""
        if self._device is not None:
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        with suppress(OSError):
            _RESTART.write_text("5")


def _of_process(what: str) -> int:
    if _STATUS.exists():
        # Unlike getrusage its peak does not begin with the parent's.
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(what))
        return int(line.split()[1]) * _KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else _KIB)
