"""Facts about the machine."""

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from metaprompts import __version__
from metaprompts.utils.system import fact, held_bytes, memory_bytes, peak_bytes, versions

_LIBRARIES = ("torch", "diffusers", "openvino", "onnxruntime", "nncf", "numpy")
_CPU, _RESTART = Path("/proc/cpuinfo"), Path("/proc/self/clear_refs")


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Processor, memory in bytes, threads, load and library versions.

    Args:
        device: the models' device
    """
    return {
        "cpu": fact(_CPU, "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_bytes": memory_bytes("MemTotal"),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"metaprompts": __version__, **versions(*_LIBRARIES)},
    }


class MemoryMeter:
    """Resident memory of this process, or PyTorch's allocated memory on a CUDA device.

    Args:
        device: the model's device
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None

    def now(self) -> int:
        """Bytes in use; the peak if the system does not report current use."""
        return held_bytes() if self._device is None else torch.cuda.memory_allocated(self._device)

    def peak(self) -> int:
        """Peak bytes since `restart`, or since the process began if `restart` was not possible."""
        return peak_bytes() if self._device is None else torch.cuda.max_memory_allocated(self._device)

    def restart(self) -> None:
        """Reset the peak, if the system allows it."""
        if self._device is not None:
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        with suppress(OSError):
            _RESTART.write_text("5")
