"""How much memory this process holds, now and at its peak."""

from contextlib import suppress
from pathlib import Path

import torch

from metaprompts.system import held_bytes, peak_bytes

_RESTART = Path("/proc/self/clear_refs")


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
        return held_bytes()

    def peak(self) -> int:
        """Most bytes held since the process or, if `restart` succeeded, that began."""
        if self._device is not None:
            return torch.cuda.max_memory_allocated(self._device)
        return peak_bytes()

    def restart(self) -> None:
        """Begin a new peak, where the system allows that."""
        if self._device is not None:
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        with suppress(OSError):
            _RESTART.write_text("5")
