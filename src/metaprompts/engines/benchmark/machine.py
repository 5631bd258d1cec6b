"""The machine: facts, memory in use, and the peak speed that the installed libraries reach."""

import copy
import os
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metaprompts import __version__
from metaprompts.engines.benchmark.parts import flops_of, seconds_of
from metaprompts.engines.factory import installed
from metaprompts.engines.openvino import converted_by_openvino
from metaprompts.engines.quantization.simulation import FakeQuantization
from metaprompts.utils.system import cpu_flags, fact, held_bytes, memory_bytes, peak_bytes, versions

_LIBRARIES = ("torch", "diffusers", "openvino", "onnxruntime", "nncf", "numpy")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_OF_OPENVINO = ("fp32", "bf16", "int8")
_TRIALS = 4
# The convolution has side / 8 channels on maps of this side.
_MAP, _SIDE_OF_CHANNELS = 64, 8

Kernel = tuple[str, float, Callable[[], Any]]
"""The precision of a kernel's multiplications, its number of operations, and the function to time."""


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Processor, memory in bytes, threads, load and library versions; and the GPU, if it is the device."""
    return {
        "cpu": fact(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "memory_bytes": memory_bytes("MemTotal"),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"metaprompts": __version__, **versions(*_LIBRARIES)},
    }


def used_memory(device: torch.device) -> int:
    """Bytes that PyTorch uses on a CUDA device; for other devices, this process's resident memory."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else held_bytes()


def peak_memory(device: torch.device) -> int:
    """Peak of `used_memory` since `restart_peak`, or since the process began if that was not possible."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()


def restart_peak(device: torch.device) -> None:
    """Begin a new peak, if the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def measure_peaks(kernels: Iterable[Kernel], peaks: dict[str, float]) -> None:
    """Time all kernels a few times, and raise the peaks (precision -> operations per second) that they exceed."""
    for precision, flops, work in kernels:
        seconds = min(seconds_of(work)[1] for _ in range(_TRIALS))
        peaks[precision] = max(flops / seconds, peaks.get(precision, 0.0))


def peak_kernels(device: torch.device, side: int) -> Iterator[Kernel]:
    """A product of square matrices and a 3x3 convolution, in every installed library and native precision."""
    channels = max(1, side // _SIDE_OF_CHANNELS)
    layers: list[tuple[nn.Module, Tensor]] = [
        (nn.Linear(side, side, bias=False), torch.rand(side, side)),
        (nn.Conv2d(channels, channels, 3, padding=1, bias=False), torch.rand(1, channels, _MAP, _MAP)),
    ]
    on_cpu = device.type == "cpu"
    for layer, inputs in layers:
        layer.requires_grad_(False)
        _, flops = flops_of(layer, inputs)
        for precision, dtype in _DTYPES.items():
            if not (on_cpu and precision in _emulated(cpu_flags())):
                yield precision, flops, partial(copy.deepcopy(layer).to(device, dtype), inputs.to(device, dtype))
        for precision in _OF_OPENVINO if on_cpu and installed("openvino") else ():
            yield precision, flops, _openvino_kernel(layer, inputs, precision)


def _emulated(flags: frozenset[str]) -> set[str]:
    """Precisions that PyTorch emulates on a CPU; a single product may then take minutes."""
    return {"fp16"} if not flags or {"avx512_bf16", "amx_bf16"} & flags else {"fp16", "bf16"}


def _openvino_kernel(layer: nn.Module, inputs: Tensor, precision: str) -> Callable[[], Any]:
    import openvino

    # The layer is the only group, without a name; its inputs always have the range that is traced.
    rounding = FakeQuantization(layer, frozenset([""] if precision == "int8" else []))
    with rounding, warnings.catch_warnings(record=True):
        network = converted_by_openvino(layer, inputs)
    network.reshape(list(inputs.shape))
    hint, threads = "bf16" if precision == "bf16" else "f32", str(torch.get_num_threads())
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    request = openvino.compile_model(network, "CPU", settings).create_infer_request()
    return partial(request.infer, [inputs.numpy()], share_inputs=True, share_outputs=True)
