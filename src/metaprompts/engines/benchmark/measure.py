"""Measure engines, interleaved so that background load affects all equally, and the cost curve of one of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaprompts.engines.benchmark.engine_runs import EngineRun, RunHere, convert
from metaprompts.engines.benchmark.machine import machine_facts, measure_peaks, peak_kernels
from metaprompts.engines.benchmark.parts import Flops, Timing, count_flops
from metaprompts.engines.benchmark.plan import BLOCK, EngineSpec, Plan, Workload
from metaprompts.engines.loading import PLAIN
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.system import memory_bytes

# An open engine holds the weights (twice if the file's pages are not released), plus the memory for a prediction.
_HELD_OF_WEIGHTS = 2.5
# The side of the matrices whose product measures the machine's peak speed.
_SIDE, _QUICK_SIDE = 2048, 256
# Points of the cost curve; a smoke test has fewer.
_SIDES, _SMALL_SIDES = (256, 384, 512, 768), (64, 128)
_PROMPTS, _FEW_PROMPTS = (50, 100, 150), (4, 8)
_COUNTS, _FEW_COUNTS = (1, 2, 4), (1, 2)


@dataclass(frozen=True, kw_only=True)
class EngineResult(EngineSpec):
    """One engine's results.

    Attributes:
        seconds: the median of each part; the median of the total is not the sum of these
        memory_bytes: see `Subject.memory`
        time_of_plain: total seconds relative to the plain engine; None if the plain engine was not measured
        memory_of_plain: peak bytes relative to the plain engine
        share_of_peak: operations per second, relative to the peak speed of this machine; the operations of the plain
            engine are counted, even for engines that need fewer
        share_of_peak_by_part: ``share_of_peak`` for "encode", for each of the "steps", and for "decode"
        difference_from_plain: maximum ("max_of_std") and mean ("mean_of_std") difference from the plain engine's raw
            output, in units of the standard deviation of that output
    """

    seconds: Timing
    fastest_s: float
    slowest_s: float
    rounds: Sequence[Timing]
    opening_s: Mapping[str, float]
    memory_bytes: Mapping[str, int]
    time_of_plain: float | None
    memory_of_plain: float | None
    share_of_peak: float
    share_of_peak_by_part: Mapping[str, Any]
    difference_from_plain: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class CostPoint(Workload):
    """The cost of one workload.

    Attributes:
        seen: (height, width) of the images that the backbone sees
        flops: operations of the plain engine
        seconds: median of ``rounds_s``, the durations of the predictions
        memory_bytes: see `Subject.memory`
    """

    seen: tuple[int, int]
    flops: float
    seconds: float
    rounds_s: Sequence[float]
    memory_bytes: Mapping[str, int]

    def place(self, axis: str) -> int:
        """The position on an axis."""
        return math.prod(self.seen) if axis == "pixels" else int(getattr(self, axis))


@dataclass(frozen=True, kw_only=True)
class CostCurve(EngineSpec):
    """Costs by one engine of workloads that differ along one axis: axis -> points, ascending."""

    axes: Mapping[str, Sequence[CostPoint]]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of a benchmark, as in bench.json.

    Attributes:
        seen: see `Flops`
        matrix_products_flops_per_second: precision -> the best operations per second reached on this machine, by matrix
            products, convolutions or a part of an engine
        kept_open: whether all engines stayed open, or were reopened in every round
    """

    subject: str
    machine: Mapping[str, Any]
    workload: Workload
    seen: tuple[int, int]
    flops: Flops
    matrix_products_flops_per_second: Mapping[str, float]
    kept_open: bool
    engines: Sequence[EngineResult]
    curve: CostCurve | None


def measure(plan: Plan, on_stage: Callable[[str], None]) -> Results:
    """Measure all engines, then the cost curve; ``on_stage`` is called with a description of each stage.

    Raises:
        InputError: an engine does not open, or its process dies
    """
    torch.set_num_threads(plan.threads or torch.get_num_threads())
    machine = machine_facts(plan.device)
    for spec in plan.engines:
        convert([plan], spec, on_stage)
    kept_open = _fit_together(plan) if plan.together is None else plan.together
    runs, peaks = [EngineRun(plan, spec) for spec in plan.engines], dict[str, float]()
    kernels = list(peak_kernels(plan.device, _QUICK_SIDE if plan.quick else _SIDE))
    with ExitStack() as stack:
        for run in runs:
            stack.callback(run.close)
        for turn in range(1, plan.rounds + 1):
            measure_peaks(kernels, peaks)
            for run in runs:
                on_stage(f"round {turn} of {plan.rounds}: {run.spec.name}")
                run.predict()
                if turn == plan.rounds or not kept_open:
                    run.finish()
    flops = count_flops(plan)
    for run in runs:
        # The machine can reach whatever rate a part of an engine has reached, so no share is above 1.
        rates = [amount / s for each in run.timings for amount, s in zip(flops.parts, each.parts, strict=True)]
        peaks[run.spec.computes] = max(peaks.get(run.spec.computes, 0.0), *rates)
    plain = next((run for run in runs if run.spec.engine == PLAIN), None)
    return Results(
        subject=plan.subject,
        machine=machine,
        workload=plan.workload,
        seen=flops.seen,
        flops=flops,
        matrix_products_flops_per_second=peaks,
        kept_open=kept_open,
        engines=[_result(run, plain, flops, peaks[run.spec.computes]) for run in runs],
        curve=None if plan.curve is None else measure_curve(plan, plan.curve, on_stage),
    )


def _result(run: EngineRun, plain: EngineRun | None, flops: Flops, speed: float) -> EngineResult:
    """An engine's results, relative to the plain engine and to the peak speed of this machine."""
    seconds, totals = _median(run.timings), [timing.total for timing in run.timings]
    encode, *steps, decode = (amount / s / speed for amount, s in zip(flops.parts, seconds.parts, strict=True))
    return EngineResult(
        **asdict(run.spec),
        seconds=seconds,
        fastest_s=min(totals),
        slowest_s=max(totals),
        rounds=run.timings,
        opening_s=run.opening_s,
        memory_bytes=run.memory,
        time_of_plain=None if plain is None else seconds.total / _median(plain.timings).total,
        memory_of_plain=None if plain is None else run.memory["peak"] / plain.memory["peak"],
        share_of_peak=flops.total / median(sum(timing.parts) for timing in run.timings) / speed,
        share_of_peak_by_part={"encode": encode, "steps": steps, "decode": decode},
        difference_from_plain=None if plain is None else _difference(run.raw, plain.raw),
    )


def _median(timings: Sequence[Timing]) -> Timing:
    names = ("pre", "encode", "decode", "post", "total")
    steps = [median(of_step) for of_step in zip(*(each.steps for each in timings), strict=True)]
    return Timing(**{name: median(getattr(each, name) for each in timings) for name in names}, steps=steps)


def _difference(found: NDArray[np.float32], plain: NDArray[np.float32]) -> dict[str, float]:
    """The difference between two raw outputs, in units of the standard deviation of ``plain``."""
    apart, scale = np.abs(found.astype(np.float64) - plain), float(plain.std(dtype=np.float64)) or 1.0
    return {"max_of_std": float(apart.max()) / scale, "mean_of_std": float(apart.mean()) / scale}


def _fit_together(plan: Plan) -> bool:
    """Whether the free memory suffices for all engines at once."""
    free = memory_bytes("MemAvailable")
    weights = sum(each.nbytes for each in MetaPromptModel.from_config(plan.config).state_dict().values())
    return free is None or plan.device.type != "cpu" or len(plan.engines) * _HELD_OF_WEIGHTS * weights < free


def measure_curve(plan: Plan, spec: EngineSpec, on_stage: Callable[[str], None]) -> CostCurve:
    """Measure all points, each in its own process; points shared by several axes are measured once."""
    axes = workloads_of_axes(plan)
    plans = {workload: replace(plan, workload=workload) for of_axis in axes.values() for workload in of_axis}
    convert(plans.values(), spec, on_stage)
    points = {}
    for number, workload in enumerate(plans, 1):
        on_stage(f"cost curve, point {number} of {len(plans)}")
        points[workload] = _measured(plans[workload], spec)
    of_axes = {axis: [points[workload] for workload in of_axis] for axis, of_axis in axes.items()}
    return CostCurve(**asdict(spec), axes=of_axes)


def _measured(plan: Plan, spec: EngineSpec) -> CostPoint:
    # A smoke test uses one process for all points, because each takes seconds to start; memory then covers all points.
    with closing((RunHere if plan.quick else EngineRun)(plan, spec)) as run:
        for _ in range(plan.rounds):
            run.predict()
        run.finish()
    flops, seconds = count_flops(plan), [timing.total for timing in run.timings]
    return CostPoint(
        **asdict(plan.workload),
        seen=flops.seen,
        flops=flops.total,
        seconds=median(seconds),
        rounds_s=seconds,
        memory_bytes=run.memory,
    )


def workloads_of_axes(plan: Plan) -> dict[str, list[Workload]]:
    """The workloads on each axis that the model has; each differs from the plan's own only along that axis."""
    base, config = plan.workload, plan.config
    sides, prompts, counts = (_SMALL_SIDES, _FEW_PROMPTS, _FEW_COUNTS) if plan.quick else (_SIDES, _PROMPTS, _COUNTS)
    # The backbone then sees a square of the side.
    margin = BLOCK * getattr(config.task, "margin_blocks", 0)
    axes = {
        "pixels": [base.at(max(side - margin, BLOCK)) for side in sides],
        "steps": [replace(base, steps=steps) for steps in range(1, config.refinement.steps + 1)],
    }
    if config.prompts.kind == "meta":
        # The number of labels, or of tokens per caption, is fixed.
        axes["prompts"] = [replace(base, prompts=count) for count in prompts]
    axes["batch"] = [replace(base, batch=batch) for batch in counts]
    if not config.task.reads_boxes:
        # Crops of people form a batch.
        axes["windows"] = [replace(base.at(min(base.size)), windows=windows) for windows in counts]
    return axes
