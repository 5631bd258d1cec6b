"""The engines to compare."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from metaprompts.engines.factory import CONVERTING, PRECISIONS, check_engine, installed
from metaprompts.errors import InputError

PLAIN = "plain"

_ENGINES = (PLAIN, *PRECISIONS)


@dataclass(frozen=True, order=True)
class EngineSpec:
    """An engine and its precision."""

    engine: str
    precision: str

    @property
    def name(self) -> str:
        """The engine's spelling on the command line."""
        return f"{self.engine}:{self.precision}"

    @property
    def converts(self) -> bool:
        """Whether the engine uses a converted model, which is cached on disk."""
        return self.engine in CONVERTING


def default_specs(device: torch.device) -> list[EngineSpec]:
    """Every installed engine that needs no compiling before each run, and OpenVINO in bf16."""
    names = [PLAIN, "eager"]
    if device.type == "cpu":
        names += [name for name in CONVERTING if installed(name)]
        names += ["openvino:bf16"] if installed("openvino") else []
    return parse_specs(names, device)


def parse_specs(names: Sequence[str], device: torch.device, option: str = "--engine") -> list[EngineSpec]:
    """Parse names of the form ENGINE or ENGINE:PRECISION, and drop duplicates.

    Args:
        names: the given names
        device: compute device
        option: the option's name, for errors

    Raises:
        InputError: an engine is unknown, not installed, or does not support the device
    """
    return list(dict.fromkeys(_read(name, device, option) for name in names))


def _read(name: str, device: torch.device, option: str) -> EngineSpec:
    engine, _, precision = name.partition(":")
    if engine not in _ENGINES:
        raise InputError(
            f"{option} has {name!r}; expected {', '.join(_ENGINES)}, or one with a precision such as eager:bf16"
        )
    precision = precision or "fp32"
    spec = EngineSpec(engine, precision)
    if engine != PLAIN:
        check_engine(engine, precision, device)  # type: ignore[arg-type]
    elif precision != "fp32":
        raise InputError(f"engine {PLAIN} supports fp32, not {precision}: choose fp32 or another engine")
    return spec
