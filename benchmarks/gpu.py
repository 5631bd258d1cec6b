"""Measure predictions and training steps on one GPU, at full width with random weights, in at most so many minutes.

    python benchmarks/gpu.py [--minutes 8] [--out results/gpu]
    python benchmarks/gpu.py --device cpu --tiny --minutes 1 --out /tmp/gpu      # a trial of the script itself

Writes predict.json and train.json: images per second (median) and peak memory of each combination of engine,
precision and batch size, or of recipe, precision and options, each written as soon as it is measured; and machine.json.
Combinations that do not fit in memory, or for which no time is left, are listed with the reason.
"""

import argparse
import gc
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.engines.benchmark.machine import machine_facts, peak_memory, restart_peak
from metaprompts.engines.benchmark.synthetic_weights import full_width_config
from metaprompts.engines.factory import open_engine
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone.loading import named_config
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.dummy import empty_batch, stand_in_model
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.train_step import LossModule
from metaprompts.utils.files import write_json
from metaprompts.utils.torch_modules import channels_last

ROUNDS = 7
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Where and how long to measure.

    Attributes:
        device: the GPU, or the CPU for a trial
        tiny: whether to use tiny networks
        ends: when to stop, by `time.monotonic`
        out: folder of the results
    """

    device: torch.device
    tiny: bool
    ends: float
    out: Path

    def measure(self, name: str, cases: Iterator[tuple[Row, Callable[[], Callable[[], object]]]]) -> None:
        """Measure all cases; each is described by a row, and its function returns the function to time."""
        rows: list[Row] = []
        for facts, prepare in cases:
            rows.append({**facts, **self._measured(prepare, facts["batch"])})
            write_json(self.out / f"{name}.json", {"rows": rows})
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()

    def _measured(self, prepare: Callable[[], Callable[[], object]], images: int) -> Row:
        if time.monotonic() > self.ends:
            return {"error": "not measured: no time was left"}
        try:
            restart_peak(self.device)
            timed = prepare()
            # The first call compiles and allocates; the second captures CUDA graphs.
            first = seconds(timed, self.device)
            seconds(timed, self.device)
            taken = [seconds(timed, self.device) for _ in range(2 if self.tiny else ROUNDS)]
            return {
                "images_per_s": images / statistics.median(taken),
                "seconds": taken,
                "first_s": first,
                "peak_bytes": peak_memory(self.device),
            }
        except torch.cuda.OutOfMemoryError:
            return {"error": "out of memory"}
        finally:
            timed = prepare = None  # type: ignore[assignment]
            torch._dynamo.reset()
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def main() -> int:
    """Measure predictions, then training steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.stderr.write("error: there is no NVIDIA GPU: try --device cpu --tiny\n")
        return 2
    device, started = torch.device(options.device), time.monotonic()
    write_json(options.out / "machine.json", machine_facts(device))
    for share, name, cases in ((0.5, "predict", predictions), (1.0, "train", training_steps)):
        run = Run(device, options.tiny, started + 60 * options.minutes * share, options.out)
        run.measure(name, cases(run))
    return 0


def seconds(timed: Callable[[], object], device: torch.device) -> float:
    """The seconds of one call, including the GPU's work."""
    wait = torch.cuda.synchronize if device.type == "cuda" else nullcontext
    wait()
    started = time.perf_counter()
    timed()
    wait()
    return time.perf_counter() - started


def predictions(run: Run) -> Iterator[tuple[Row, Callable[[], Callable[[], object]]]]:
    """Depth at the published size: engines, precisions and batch sizes, then CUDA graphs and memory formats."""
    config, size = full_width_config("depth"), (512, 512)
    if run.tiny:
        config, size = replace(config, backbone=_tiny_backbone(config)), (64, 64)
    batches = (1, 2) if run.tiny else (1, 8, 32)
    halves = ("bf16",) if run.device.type == "cpu" else ("bf16", "fp16")
    pairs = [("plain", "fp32"), ("eager", "fp32"), *(("eager", half) for half in halves)]
    if not run.tiny:
        pairs += [("compile", "bf16"), ("CUDA graphs", "bf16")]
    pairs.append(("channels first", "bf16"))
    for (engine, precision), batch in itertools.product(pairs, batches):
        row = {"engine": engine, "precision": precision, "batch": batch, "size": size}
        yield (
            row,
            lambda engine=engine, precision=precision, batch=batch: _predictor(
                run, config, engine, precision, torch.rand(batch, 3, *size, device=run.device)
            ),
        )


def _tiny_backbone(config: ModelConfig) -> Any:
    return replace(config.backbone, unet=named_config("micro")["unet"], vae=named_config("micro")["vae"])


def _predictor(run: Run, config: ModelConfig, engine: str, precision: str, images: Tensor) -> Callable[[], object]:
    with run.device:
        model = MetaPromptModel(config).eval()
    if engine == "plain":
        predict: Any = model
    elif engine in ("CUDA graphs", "channels first"):
        prepared = OptimizedModel(model).to(DTYPES[precision])
        images = images.to(DTYPES[precision])
        if engine == "CUDA graphs":
            channels_last(prepared)
            predict = torch.compile(prepared, mode="reduce-overhead", dynamic=False)
        else:
            predict = prepared
    else:
        named: Any = {"engine": engine, "precision": precision}
        predict = open_engine(model, **named)

    def timed() -> object:
        with torch.inference_mode():
            return predict(images)

    return timed


def training_steps(run: Run) -> Iterator[tuple[Row, Callable[[], Callable[[], object]]]]:
    """Steps of the published recipes in bf16, then one option at a time for the depth recipe."""
    checkpointing = ("--backbone.gradient_checkpointing", "true")
    kinds: dict[str, tuple[str, ...]] = {
        "as published": (),
        "checkpointing": checkpointing,
        "LoRA": ("--training.trainable", "lora"),
        "8-bit AdamW": ("--optimizer.kind", "adamw_8bit"),
        "unfused AdamW": (),
        "channels last": (),
        "compiled": (),
    }
    if run.device.type == "cpu":
        del kinds["8-bit AdamW"], kinds["compiled"]
    batch = 2 if run.tiny else 4
    cases = [("nyu", "bf16", name) for name in kinds]
    cases += [
        ("nyu", "fp32", "as published"),
        ("ade20k", "bf16", "as published"),
        ("coco_pose", "bf16", "as published"),
    ]
    for recipe, precision, option in cases:
        row = {"recipe": recipe, "precision": precision, "option": option, "batch": batch}
        words = [*kinds[option], "--training.precision", precision, *_sized(recipe, batch, tiny=run.tiny)]
        made = read_recipe(recipe, words)
        yield row, lambda made=made, option=option: _step(run, made, option)


def _sized(recipe: str, batch: int, *, tiny: bool) -> list[str]:
    count = str(batch)
    words = ["--training.batch_size", count, "--training.micro_batch_size", count, "--training.loss_group_size", count]
    words += ["--training.batch_norm", "frozen", "--training.init_from", "none"]
    if not tiny:
        return words
    small = (
        ["--task.crop_height", "64", "--task.crop_width", "64"]
        if "pose" in recipe
        else ["--augment.crop_size", "64,64"]
    )
    small += ["--task.margin_blocks", "0"] if recipe == "nyu" else []
    return [*words, *small, "--backbone.source", "micro", "--training.device", "cpu"]


def _step(run: Run, recipe: Any, option: str) -> Callable[[], object]:
    with run.device:
        model = stand_in_model(recipe)
    if option == "channels last":
        channels_last(model)
    optimizer = make_optimizer(model, recipe.optimizer)
    if option == "unfused AdamW":
        optimizer = torch.optim.AdamW(optimizer.param_groups, fused=False, foreach=True)
    precision = recipe.training.precision
    one_pass = LossModule(
        model, autocast=lambda: torch.autocast(run.device.type, DTYPES[precision], enabled=precision != "fp32")
    )
    if option == "compiled":
        one_pass.compile()
    batch = {name: torch.ones_like(each) for name, each in empty_batch(recipe, recipe.training.batch_size).items()}

    def timed() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(one_pass(batch).values())).sum().backward()
        optimizer.step()

    return timed


if __name__ == "__main__":
    sys.exit(main())
