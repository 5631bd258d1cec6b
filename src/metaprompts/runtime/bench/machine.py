"""What this machine is."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from metaprompts import __version__

_LIBRARIES = ("torch", "diffusers", "openvino", "onnxruntime", "nncf", "numpy")
_CPU, _MEMORY = Path("/proc/cpuinfo"), Path("/proc/meminfo")
_KIB = 2**10


def machine_facts(device: torch.device, threads: int | None) -> dict[str, Any]:
    """Processor, memory in bytes, threads, load and library versions.

    Args:
        device: where the models are
        threads: that were asked for; None for PyTorch's choice
    """
    return {
        "cpu": _after(_CPU, "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_bytes": memory_bytes("MemTotal"),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"metaprompts": __version__, **{name: _version(name) for name in _LIBRARIES}},
    }


def memory_bytes(what: str) -> int | None:
    """MemTotal or MemAvailable of the system in bytes; None where it does not say."""
    found = _after(_MEMORY, what)
    return None if found is None else int(found.split()[0]) * _KIB


def _after(path: Path, key: str) -> str | None:
    if not path.exists():
        return None
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
