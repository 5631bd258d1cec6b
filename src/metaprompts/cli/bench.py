"""``metaprompts bench``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from metaprompts.cli.calibration import WithCalibration
from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range


@dataclass(frozen=True, kw_only=True)
class Bench(WithCalibration):
    """Measure time and memory of each part of a prediction for each engine.

    Nothing is downloaded: the default is the published depth model at full width with synthetic weights, which are
    cached (3.7 GB). Every engine has its own process; the engines run interleaved, one prediction each per round.
    Writes bench.json, bench.md and bench.png.
    """

    model: str | None = argument("MODEL", None, names=embedded_models)
    """A model folder, a hub id, or the name of an embedded model."""
    task: Literal["depth", "segmentation", "pose"] = "depth"
    """Without MODEL: the task of the published model to measure."""
    engine: tuple[str, ...] = option((), metavar="ENGINE[:PRECISION]")
    """Engine to measure, for example plain, eager or openvino:bf16; may be repeated. By default all installed engines
    except compile."""
    size: tuple[int, int] | None = option(None, metavar="HEIGHT WIDTH")
    """Image size; by default the training size."""
    batch_size: Annotated[int, Range(1, 10**9)] = 1
    """Number of images per forward pass."""
    rounds: Annotated[int, Range(1, 10**9)] = 3
    """Predictions per engine, after one warm-up."""
    threads: Annotated[int, Range(1, 10**6)] | None = None
    """Number of threads; by default PyTorch's choice."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default the GPU if there is one."""
    opened: Literal["auto", "together", "one"] = "auto"
    """together: keep all engines loaded between rounds; one: load one at a time, which is slower but needs less memory;
    auto: together if memory suffices."""
    curve: bool = False
    """Also measure the cost curve: time and memory against pixels, steps, prompts, batch size and windows."""
    curve_engine: str | None = option(None, metavar="ENGINE[:PRECISION]")
    """Engine for which the cost curve is measured; by default eager."""
    quick: bool = False
    """Measure an embedded miniature in seconds, as a smoke test."""
    out: Path = option(Path("metaprompts-bench"), metavar="DIR")
    """Folder for the results."""

    def run(self) -> int:
        """Run the benchmark; write and print its results."""
        from rich.console import Console
        from rich.markdown import Markdown

        from metaprompts.engines.benchmark import report
        from metaprompts.engines.benchmark.measure import measure
        from metaprompts.engines.benchmark.plan import Plan, chosen_model, parse_specs, workload_for
        from metaprompts.utils.device import pick_device
        from metaprompts.utils.files import check_writable

        if self.curve_engine is not None and not self.curve:
            raise InputError("--curve-engine requires --curve: add --curve, or omit --curve-engine")
        names = [*self.engine, self.curve_engine or ""]
        self.calibration_options.check("w8a8" if any(name.endswith(":w8a8") for name in names) else "fp32")
        check_writable(self.out)
        device = pick_device(self.device)
        engines = parse_specs(self.engine, device)
        curve = parse_specs([self.curve_engine or "eager"], device, "--curve-engine")[0] if self.curve else None
        watched = Console(stderr=True)
        with watched.status("measuring") as status:
            # Log files do not support lines that are redrawn.
            on_stage = status.update if watched.is_terminal else watched.print
            subject, source, config = chosen_model(self.model, self.task, quick=self.quick, on_stage=on_stage)
            plan = Plan(
                subject=subject,
                source=source,
                config=config,
                workload=workload_for(config, self.size, self.batch_size),
                device=device,
                engines=engines,
                curve=curve,
                rounds=self.rounds,
                threads=self.threads,
                together=None if self.opened == "auto" else self.opened == "together",
                quick=self.quick,
                calibration=self.calibration_options,
            )
            results = measure(plan, on_stage)
        report.write(results, self.out)
        Console().print(Markdown(report.tables(results)))
        say("\n".join([*report.notes(results), f"results in {self.out}", ""]))
        return 0
