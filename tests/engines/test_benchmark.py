"""What `metaprompts bench` measures adds up, and is measured on what it says."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from metaprompts.cli import main
from metaprompts.engines.benchmark import cost_curve as curves
from metaprompts.engines.benchmark import peak_speed
from metaprompts.engines.benchmark.cost_curve import measure_curve, workloads_of_axes
from metaprompts.engines.benchmark.engine_specs import EngineSpec, default_specs, parse_specs
from metaprompts.engines.benchmark.flops import count_flops
from metaprompts.engines.benchmark.instrumented import MeteredParts, PlainParts, flops_of, seconds_of
from metaprompts.engines.benchmark.plan import Plan, Request
from metaprompts.engines.benchmark.plots import curve_figure
from metaprompts.engines.benchmark.runner import Subject, subject_model
from metaprompts.engines.benchmark.synthetic_weights import (
    full_width_config,
    rule_made_folder,
    spreads,
    synthetic_weights,
)
from metaprompts.engines.benchmark.tables import curve_rows
from metaprompts.engines.benchmark.worker import EngineProcess
from metaprompts.engines.benchmark.workload import Workload, config_for, workload_for
from metaprompts.engines.optimized import run
from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from small import small_model

CPU = torch.device("cpu")


class HereAndNow(Subject):
    """An engine as in a process of its own, but in this one."""

    def close(self) -> None:
        pass


class PlanHere(Plan):
    def opened(self, spec: EngineSpec, workload: Workload, doing: str = "") -> HereAndNow:
        return HereAndNow(self.source, spec, workload, str(self.device))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, MetaPromptModel]:
    model = small_model("depth")
    model.save(tmp_path / "model")
    return str(tmp_path / "model"), model


def plan_for(source: str, model: MetaPromptModel) -> PlanHere:
    workload = workload_for(model.config, (64, 64), default=(64, 64), batch=1)
    request = Request(rounds=1, threads=1, quick=True)
    return PlanHere(request=request, subject="", source=source, config=model.config, workload=workload, device=CPU)


def test_files_tell_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def process(name: str, threads: int | None, *what: Any) -> object:
        # One process is enough to see that it answers, and takes seconds to begin.
        return EngineProcess(name, threads, *what) if name.startswith("plain") else HereAndNow(*what)

    monkeypatch.setattr("metaprompts.engines.benchmark.plan.EngineProcess", process)
    # Here seconds of the processor, for what else the machine does must not matter.
    monkeypatch.setattr("time.perf_counter", time.thread_time)
    words = ["--engine", "plain", "--engine", "eager", "--rounds", "1", "--threads", "1", "--out", str(tmp_path)]

    assert main(["bench", "--quick", *words]) == 0

    printed, watched = capsys.readouterr()
    assert "round 1 of 1: eager:fp32" in watched
    assert "plain:fp32" in printed
    assert "GFLOP by the plain path" in printed
    report = json.loads((tmp_path / "bench.json").read_text())
    plain, eager = report["engines"]
    for engine in (plain, eager):
        (timing,) = engine["rounds"]
        parts = [timing["pre"], timing["encode"], *timing["steps"], timing["decode"], timing["post"]]
        assert (0 if engine is plain else 0.8) * timing["total"] < sum(parts) <= timing["total"]
        assert engine["seconds"]["total"] == timing["total"] == engine["fastest_s"] == engine["slowest_s"]
        memory = engine["memory_bytes"]
        assert 0 < memory["before"] <= memory["peak"] == max(memory["opening"], memory["predicting"])
        computing = timing["encode"] + sum(timing["steps"]) + timing["decode"]
        speed = report["matrix_products_flops_per_second"]["fp32"]
        assert engine["share_of_peak"] == pytest.approx(report["flops"]["total"] / computing / speed)
        by_part = engine["share_of_peak_by_part"]
        assert max(engine["share_of_peak"], by_part["encode"], *by_part["steps"], by_part["decode"]) <= 1 + 1e-9
    assert plain["time_of_plain"] == plain["memory_of_plain"] == 1
    assert plain["difference_from_plain"] == {"max_of_std": 0, "mean_of_std": 0}
    assert eager["time_of_plain"] == pytest.approx(eager["seconds"]["total"] / plain["seconds"]["total"])
    assert eager["memory_of_plain"] == pytest.approx(eager["memory_bytes"]["peak"] / plain["memory_bytes"]["peak"])
    assert 0 < eager["difference_from_plain"]["mean_of_std"] < 1e-3
    flops = report["flops"]
    assert flops["total"] == flops["encode"] + sum(flops["steps"]) + flops["decode"]
    assert (report["seen"], report["curve"]) == ([64, 64], None)
    assert "| eager:fp32 |" in (tmp_path / "bench.md").read_text()
    assert Image.open(tmp_path / "bench.png").width > 600


def test_the_cost_curve_has_every_point_of_its_axes(
    saved: tuple[str, MetaPromptModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(*saved)
    every = workloads_of_axes(plan)
    monkeypatch.setattr(curves, "workloads_of_axes", lambda plan: {"windows": every["windows"]})

    found = measure_curve(plan, EngineSpec("plain", "fp32"))

    assert list(every) == ["pixels", "steps", "prompts", "batch", "windows"]
    assert [workload.steps for workload in every["steps"]] == list(range(1, plan.workload.steps + 1))
    one, two = found.axes["windows"]
    assert two.flops.total == 2 * one.flops.total
    assert (one.workload, two.place("windows")) == (plan.workload, 2)
    assert one.to_dict()["seconds"] == median(one.seconds) > 0
    assert len(curve_rows(found).cells) == 2
    assert curve_figure(found).ndim == 3


def test_a_model_may_be_given_other_prompts(saved: tuple[str, MetaPromptModel]) -> None:
    source, model = saved
    workload = Workload(size=(64, 64), working_size=(64, 64), batch=1, steps=1, prompts=7)

    found = subject_model(source, EngineSpec("plain", "fp32"), workload, "cpu")

    assert found.config.prompts.count == 7
    assert torch.equal(found.unet.conv_in.weight, model.unet.conv_in.weight)
    assert found(torch.rand(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize("task", ["segmentation", "depth", "pose"])
def test_plain_parts_are_the_model(task: str) -> None:
    model, images = small_model(task), torch.rand(2, 3, 64, 64)
    steps = model.config.refinement.steps
    parts = MeteredParts(plain := PlainParts(model, steps), seconds_of, steps)

    with torch.no_grad():
        found = run(parts, model.task, images, plain.conditions(2, None))

        assert torch.equal(found, model(images))
    assert len(parts.of_steps()) == steps
    assert all(amount > 0 for amount in parts.amounts.values())


def test_flops_are_those_counted_by_hand() -> None:
    with torch.device("meta"):
        filters, matrix = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(7, 11)
        image, rows = torch.empty(2, 3, 8, 6), torch.empty(4, 7)
        query, key = torch.empty(1, 2, 10, 8), torch.empty(1, 2, 6, 8)

    assert flops_of(lambda: filters(image))[1] == 2 * (2 * 5 * 8 * 6) * (3 * 3 * 3)
    assert flops_of(lambda: matrix(rows))[1] == 2 * 4 * 7 * 11
    seen = flops_of(lambda: nn.functional.scaled_dot_product_attention(query, key, key))[1]
    assert seen == 2 * (2 * 2 * 10 * 6 * 8)


def test_flops_grow_as_what_is_predicted() -> None:
    config = small_model("depth").config
    once = workload_for(config, (64, 64), default=(64, 64), batch=1)
    flops = count_flops(config, once)
    twice = count_flops(config, workload_for(config, (64, 64), default=(64, 64), batch=2))

    assert twice.encode == 2 * flops.encode
    assert twice.decode == 2 * flops.decode
    assert len(set(flops.steps)) == 1
    assert flops.seen == (64, 64)


def test_rule_made_weights_are_the_same_every_time(tmp_path: Path) -> None:
    config = small_model("depth").config

    folders = [rule_made_folder(config, tmp_path / name) for name in ("a", "b")]

    first, second = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == second
    model = MetaPromptModel.from_pretrained(folders[0])
    weight = model.unet.conv_in.weight
    assert weight.std().item() == pytest.approx(weight[0].numel() ** -0.5, rel=0.1)
    depth_m = model(torch.rand(1, 3, 64, 64))
    assert depth_m.isfinite().all()
    assert depth_m.std() > 0


@pytest.mark.parametrize(
    ("name", "shape", "mean", "std"),
    [
        ("a.weight", (4000,), 1, 0.1),
        ("a.bias", (4000,), 0, 0.02),
        ("a.running_mean", (4000,), 0, 0.02),
        ("a.running_var", (4000,), 1.08, 0.06),
        ("b.weight", (40, 100), 0, 0.1),
        ("c.weight", (10, 25, 4, 4), 0, 0.05),
    ],
)
def test_the_rule(name: str, shape: tuple[int, ...], mean: float, std: float) -> None:
    made = synthetic_weights(name, torch.empty(shape, device="meta"))

    assert made.mean().item() == pytest.approx(mean, abs=0.01)
    assert made.std().item() == pytest.approx(std, rel=0.1)
    assert not torch.equal(made, synthetic_weights(f"z{name}", made))


def test_signals_neither_grow_nor_vanish() -> None:
    """Hand-worked: 50 maps meet in each pixel of a 2x2 deconvolution of stride 2; ReLU takes half of the power."""
    found = spreads(MetaPromptModel.from_config(full_width_config("depth")))

    assert found["head.enlarge.0.weight"] == pytest.approx((2 / 50) ** 0.5)
    assert found["head.convolve.0.weight"] == pytest.approx((2 / (32 * 9)) ** 0.5)
    assert found["unet.conv_in.weight"] == pytest.approx((1 / (4 * 9)) ** 0.5)


def test_depth_of_480_is_seen_at_512() -> None:
    """The margin of the published depth model enlarges 448, to which the image is brought first."""
    from dataclasses import replace

    config = small_model("depth").config
    task = replace(config.task, margin_blocks=1)
    workload = workload_for(replace(config, task=task, working_size=None), None, default=(480, 480), batch=1)

    assert workload.full_working_size() == (448, 448)
    assert task.resize_for_backbone(torch.empty(1, 3, 448, 448, device="meta")).shape[-2:] == (512, 512)


def test_crops_of_people_have_the_size() -> None:
    config = small_model("pose").config
    workload = workload_for(config, (64, 128), default=(64, 64), batch=1)

    assert (config_for(config, workload).task.crop_height, count_flops(config, workload).seen) == (64, (64, 128))


def test_all_that_is_installed_is_compared_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaprompts.engines.benchmark.engine_specs.installed", lambda name: name != "onnx")

    names = [each.name for each in default_specs(CPU)]

    assert names == ["plain:fp32", "eager:fp32", "openvino:fp32", "openvino:bf16"]
    assert [each.name for each in default_specs(torch.device("cuda"))] == ["plain:fp32", "eager:fp32"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "tensorrt",
            "--engine has 'tensorrt'; expected plain, eager, compile, openvino, onnx, or one with a precision such as "
            "eager:bf16",
        ),
        ("plain:bf16", "engine plain supports fp32, not bf16: choose fp32 or another engine"),
        ("eager:w8a16", "engine eager supports fp32, bf16 and fp16, not w8a16: choose openvino for that"),
        ("eager:fp16", "precision fp16 is for GPUs, but the model is on cpu: choose fp32 or bf16"),
        ("openvino:tf32", "engine openvino supports fp32, bf16, w8a16 and w8a8, not tf32: choose one of these"),
        ("onnx", r"onnx is not installed: pip install 'metaprompts\[onnx\]'"),
    ],
)
def test_says_which_engine_cannot_be_measured(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaprompts.engines.factory.installed", lambda name: name != "onnx")

    with pytest.raises(InputError, match=f"^{line}$"):
        parse_specs([name], CPU)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--size", "32", "480"], "--size is 32 480; expected at least 64 each"),
        (
            ["--batch-size", "0"],
            "Invalid value for '--batch-size': 0 is not in the range 1<=x<=1000000000; see metaprompts bench --help",
        ),
        (
            ["--rounds", "0"],
            "Invalid value for '--rounds': 0 is not in the range 1<=x<=1000000000; see metaprompts bench --help",
        ),
        (
            ["--task", "pose", "--size", "68", "64"],
            "--size is 68 64; expected multiples of 8: pose predicts crops of this size",
        ),
        (["--engine", "plane"], "--engine has 'plane'; expected plain, eager"),
        (["--curve-engine", "plain"], "--curve-engine needs --curve: add it, or leave out --curve-engine"),
        (["--curve", "--curve-engine", "plane"], "--curve-engine has 'plane'; expected plain, eager"),
        (["nothing"], "--quick measures an embedded miniature: leave out MODEL or --quick"),
    ],
)
def test_bad_words_are_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words, "--quick"]) == 2

    (last,) = capsys.readouterr().err.splitlines()[-1:]
    assert last.startswith(f"error: {line}")


def test_a_file_in_the_place_of_the_folder_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was after minutes of measuring."""
    monkeypatch.setattr("metaprompts.engines.benchmark.benchmark.measure", None)
    (tmp_path / "file").touch()

    assert main(["bench", "--quick", "--out", str(tmp_path / "file")]) == 2

    assert capsys.readouterr().err == f"error: cannot write to {tmp_path}/file: {tmp_path}/file is not a folder\n"


class Fatal:
    """Ends the process that opens it."""

    @property
    def engine(self) -> str:
        sys.stderr.write("first\nno memory is left\n")
        os.kill(os.getpid(), signal.SIGKILL)
        return ""


def test_says_which_process_has_died_and_its_last_line() -> None:
    line = "the worker for onnx:fp32 exited on signal 9, perhaps out of memory: no memory is left"
    with pytest.raises(InputError, match=f"^{line}$"):
        EngineProcess("onnx:fp32", 1, "micro-depth", Fatal(), None, "cpu")


def test_the_peak_speed_is_the_best_of_all_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO was reported to reach 104 % and 207 % of the machine's speed, which was that of PyTorch's products."""
    monkeypatch.setattr(peak_speed, "installed", lambda name: False)
    seconds = iter([4.0, 3.0, 2.0, 5.0] + [1.0] * 4)
    monkeypatch.setattr(peak_speed, "seconds_of", lambda work: (None, next(seconds)))
    peak = peak_speed.PeakSpeed(CPU, 8)
    peak._kernels = [("fp32", "product", lambda: None), ("fp32", "convolution", lambda: None)]

    peak.measure()

    assert peak.best == {"fp32": max(2 * 8**3 / 2.0, 2 * 9 * 64**2 / 1.0)}
    peak.raise_to("fp32", 1.0)
    peak.raise_to("int8", 7.0)
    assert peak.best == {"fp32": 2 * 9 * 64**2, "int8": 7.0}


@pytest.mark.parametrize(
    ("flags", "without"),
    [("avx2", {"fp16", "bf16"}), ("avx512_bf16", {"fp16"}), ("amx_bf16", {"fp16"}), ("", {"fp16"})],
)
def test_emulated_precisions_are_not_measured(flags: str, without: set[str]) -> None:
    """One product in bf16 took minutes on a processor with AVX2 only."""
    assert peak_speed._without(frozenset(flags.split())) == without


def test_openvino_multiplies_in_8_bits() -> None:
    pytest.importorskip("openvino")
    kernels = list(peak_speed._openvino_kernels(16, 2))

    assert {(precision, kind) for precision, kind, _ in kernels} == {
        (precision, kind) for precision in ("fp32", "bf16", "int8") for kind in ("product", "convolution")
    }
    for _, kind, work in kernels:
        (found,) = work().values()
        assert found.shape == ((16, 16) if kind == "product" else (1, 2, 64, 64))
