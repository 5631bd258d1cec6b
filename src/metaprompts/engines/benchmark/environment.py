"""Facts about the machine."""

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from metaprompts import __version__
from metaprompts.utils.system import fact, held_bytes, memory_bytes, package_version, peak_bytes

_LIBRARIES = ("torch", "diffusers", "openvino", "onnxruntime", "nncf", "numpy")
_CPU = Path("/proc/cpuinfo")


def machine_facts(device: torch.device, threads: int | None) -> dict[str, Any]:
    """Processor, memory in bytes, threads, load and library versions.

    Args:
        device: where the models are
        threads: that were asked for; None for PyTorch's choice
    """
    return {
        "cpu": fact(_CPU, "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_bytes": memory_bytes("MemTotal"),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"metaprompts": __version__, **{name: package_version(name) for name in _LIBRARIES}},
    }


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
