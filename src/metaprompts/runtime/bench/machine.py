"""What this machine is."""

import os
import platform
from pathlib import Path
from typing import Any

import torch

from metaprompts import __version__
from metaprompts.system import fact, memory_bytes, package_version

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
