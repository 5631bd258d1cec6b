"""What `metaprompts bench` measures adds up, and is measured on what it says."""

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from metaprompts.cli import main
from metaprompts.engines.benchmark import machine, measure
from metaprompts.engines.benchmark.engine_runs import EngineRun, RunHere, Subject, subject_model
from metaprompts.engines.benchmark.measure import measure_curve, workloads_of_axes
from metaprompts.engines.benchmark.parts import PlainParts, count_flops, flops_of, measured, seconds_of
from metaprompts.engines.benchmark.plan import EngineSpec, Plan, parse_specs, workload_for
from metaprompts.engines.benchmark.report import curve_figure
from metaprompts.engines.benchmark.synthetic_weights import full_width_config, rule_made_folder, rule_made_tensors
from metaprompts.engines.quantization.calibration import CalibrationOptions
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from small import small_model

CPU = torch.device("cpu")
PLAIN = EngineSpec("plain", "fp32")


def plan_for(config: ModelConfig, source: str = "", **changes: Any) -> Plan:
    workload = replace(workload_for(config, (64, 64), 1), **changes)
    how: dict[str, Any] = {"device": CPU, "engines": [PLAIN], "rounds": 1, "threads": 1, "quick": True}
    return Plan(subject="", source=source, config=config, workload=workload, **how)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, MetaPromptModel]:
    model = small_model("depth")
    model.save(tmp_path / "model")
    return str(tmp_path / "model"), model


@pytest.mark.slow
def test_files_tell_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(plan: Plan, spec: EngineSpec) -> EngineRun:
        # One process is enough to see that it answers, and takes seconds to begin.
        return EngineRun(plan, spec) if spec == PLAIN else RunHere(plan, spec)

    monkeypatch.setattr(measure, "EngineRun", run)
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
    tables = (tmp_path / "bench.md").read_text()
    assert "| eager:fp32 |" in tables
    assert "| engine | opening s | first prediction s |" in tables
    assert Image.open(tmp_path / "bench.png").width > 600


def test_engines_beside_w8a8_need_no_calibration(saved: tuple[str, MetaPromptModel]) -> None:
    """--calibration-samples, which is for openvino:w8a8, was an error of the first other engine."""
    source, model = saved
    plan = replace(plan_for(model.config, source), calibration=CalibrationOptions(folder=None, samples=2))
    with closing(RunHere(plan, EngineSpec("eager", "fp32"))) as run:
        assert run.ask(lambda subject: subject.opening_s)


@pytest.mark.slow
def test_the_cost_curve_has_every_point_of_its_axes(
    saved: tuple[str, MetaPromptModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, model = saved
    plan = plan_for(model.config, source)
    every, stages = workloads_of_axes(plan), list[str]()
    monkeypatch.setattr(measure, "workloads_of_axes", lambda plan: {"windows": every["windows"]})

    found = measure_curve(plan, PLAIN, stages.append)

    assert list(every) == ["pixels", "steps", "prompts", "batch", "windows"]
    assert [workload.steps for workload in every["steps"]] == list(range(1, plan.workload.steps + 1))
    one, two = found.axes["windows"]
    assert two.flops == 2 * one.flops
    assert ((one.size, one.seen, one.windows), two.place("windows")) == (((64, 64), (64, 64), 1), 2)
    assert one.seconds == median(one.rounds_s) > 0
    assert stages == ["cost curve, point 1 of 2", "cost curve, point 2 of 2"]
    assert curve_figure(found).ndim == 3


def test_a_model_may_be_given_other_prompts(saved: tuple[str, MetaPromptModel]) -> None:
    source, model = saved

    found = subject_model(plan_for(model.config, source, prompts=7), PLAIN)

    assert found.config.prompts.count == 7
    assert torch.equal(found.unet.conv_in.weight, model.unet.conv_in.weight)
    assert found(torch.rand(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize("task", ["segmentation", "depth", "pose"])
def test_plain_parts_are_the_model(task: str) -> None:
    model, images = small_model(task), torch.rand(2, 3, 64, 64)
    workload = workload_for(model.config, (64, 64), 2)
    plain = PlainParts(model, workload.steps)

    with torch.no_grad():
        raw, costs = measured(seconds_of, plain, model.task, workload, images, plain.conditions(2, None))

        assert torch.equal(raw, model(images))
    assert len(costs["steps"]) == workload.steps == 3
    assert min(costs["encode"], *costs["steps"], costs["decode"]) > 0


def test_flops_are_those_counted_by_hand() -> None:
    with torch.device("meta"):
        filters, matrix = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(7, 11)
        image, rows = torch.empty(2, 3, 8, 6), torch.empty(4, 7)
        query, key = torch.empty(1, 2, 10, 8), torch.empty(1, 2, 6, 8)

    assert flops_of(lambda: filters(image))[1] == 2 * (2 * 5 * 8 * 6) * (3 * 3 * 3)
    assert flops_of(lambda: matrix(rows))[1] == 2 * 4 * 7 * 11
    seen = flops_of(lambda: nn.functional.scaled_dot_product_attention(query, key, key))[1]
    assert seen == 2 * (2 * 2 * 10 * 6 * 8)


@pytest.mark.slow
def test_flops_grow_as_what_is_predicted() -> None:
    config = small_model("depth").config

    flops, twice = (count_flops(plan_for(config, batch=batch)) for batch in (1, 2))

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


def test_the_rule_of_vectors_and_matrices() -> None:
    model = nn.ModuleDict({"a": nn.BatchNorm1d(4000), "b": nn.Linear(100, 400), "c": nn.Linear(100, 400)}).to("meta")

    made = rule_made_tensors(model, but=["c.bias"])

    assert made.keys() == model.state_dict().keys() - {"c.bias"}
    assert made["a.num_batches_tracked"] == 0
    expected = {"a.weight": (1, 0.1), "a.bias": (0, 0.02), "a.running_mean": (0, 0.02), "a.running_var": (1.08, 0.06)}
    for name, (mean, std) in {**expected, "b.weight": (0, 0.1)}.items():
        assert made[name].mean().item() == pytest.approx(mean, abs=0.01)
        assert made[name].std().item() == pytest.approx(std, rel=0.1)
    assert not torch.equal(made["b.weight"], made["c.weight"])


def test_signals_neither_grow_nor_vanish() -> None:
    """Hand-worked: 50 maps meet in each pixel of a 2x2 deconvolution of stride 2; ReLU takes half of the power."""
    model = MetaPromptModel.from_config(full_width_config("depth"))
    expected = {"head.enlarge.0": 2 / 50, "head.convolve.0": 2 / (32 * 9), "unet.conv_in": 1 / (4 * 9)}
    layers = {f"{name}.weight": power for name, power in expected.items()}

    made = rule_made_tensors(model, but=model.state_dict().keys() - layers)

    assert {name: made[name].square().mean().item() for name in layers} == pytest.approx(layers, rel=0.1)


def test_depth_of_480_is_seen_at_512() -> None:
    """The margin of the published depth model enlarges 448, to which the image is brought first."""
    config = small_model("depth").config
    task = replace(config.task, margin_blocks=1)
    config = replace(config, task=task, working_size=None)

    workload = workload_for(config, None, 1)

    assert (workload.size, workload.working_size) == ((480, 480), (448, 448))
    assert task.resize_for_backbone(torch.empty(1, 3, 448, 448, device="meta")).shape[-2:] == (512, 512)


@pytest.mark.slow
def test_crops_of_people_have_the_size() -> None:
    config = small_model("pose").config
    plan = plan_for(config, size=(64, 128))

    assert (plan.workload.adapted(config).task.crop_height, count_flops(plan).seen) == (64, (64, 128))


def test_all_that_is_installed_is_compared_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaprompts.engines.benchmark.plan.installed", lambda name: name != "onnx")

    names = [each.name for each in parse_specs([], CPU)]

    assert names == ["plain:fp32", "eager:fp32", "openvino:fp32", "openvino:bf16"]
    assert [each.name for each in parse_specs([], torch.device("cuda"))] == ["plain:fp32", "eager:fp32"]


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
        ("eager:fp16", "precision fp16 requires a GPU, but the model is on cpu: choose fp32 or bf16"),
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
        (["--curve-engine", "plain"], "--curve-engine requires --curve: add --curve, or omit --curve-engine"),
        (["--curve", "--curve-engine", "plane"], "--curve-engine has 'plane'; expected plain, eager"),
        (["nothing"], "--quick measures an embedded miniature: omit MODEL or --quick"),
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
    monkeypatch.setattr(measure, "measure", None)
    (tmp_path / "file").touch()

    assert main(["bench", "--quick", "--out", str(tmp_path / "file")]) == 2

    assert capsys.readouterr().err == f"error: cannot write to {tmp_path}/file: {tmp_path}/file is not a folder\n"


class Fatal:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo first; echo no memory is left >&2; kill -9 $PPID",)


@pytest.mark.slow
def test_says_which_process_has_died_and_its_last_line(saved: tuple[str, MetaPromptModel]) -> None:
    source, model = saved
    ends: Any = Fatal()
    line = "the worker for plain:fp32 exited on signal 9, perhaps out of memory: no memory is left"
    with closing(EngineRun(plan_for(model.config, source), PLAIN)) as run, pytest.raises(InputError, match=f"^{line}$"):
        run.ask(ends)


@pytest.mark.slow
def test_an_engine_that_is_reopened_has_measurements_of_all_openings(saved: tuple[str, MetaPromptModel]) -> None:
    source, model = saved
    run, memory = RunHere(plan_for(model.config, source), PLAIN), iter([5, 9, 7])
    run.ask = lambda method: {"peak": next(memory)} if method is Subject.memory else RunHere.ask(run, method)  # type: ignore[method-assign]
    for _ in range(3):
        run.predict()
        run.finish()

    assert (len(run.timings), run.memory) == (3, {"peak": 9})
    assert run.raw.shape == (1, 1, 64, 64)
    assert min(run.opening_s["opening"], run.opening_s["first_prediction"]) > 0


def test_the_peak_speed_is_the_best_of_all_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO was reported to reach 104 % and 207 % of the machine's speed, which was that of PyTorch's products."""
    seconds = iter([4.0, 3.0, 2.0, 5.0] + [1.0] * 4 + [4.0] * 4)
    monkeypatch.setattr(machine, "seconds_of", lambda work: (None, next(seconds)))
    peaks = {"fp32": 3.0}

    machine.measure_peaks([("fp32", 10.0, print), ("fp32", 7.0, print), ("int8", 8.0, print)], peaks)

    assert peaks == {"fp32": 7.0, "int8": 2.0}


def test_products_and_convolutions_are_measured_in_every_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations are counted by hand: 2 n^3, and 2 * 9 C^2 for each of 64x64 pixels."""
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(machine, "installed", lambda name: False)

    kernels = list(machine.peak_kernels(CPU, 16))

    product, convolution = 2 * 16**3, 2 * 9 * 2**2 * 64**2
    assert [kernel[:2] for kernel in kernels] == [
        (precision, flops) for flops in (product, convolution) for precision in ("fp32", "bf16")
    ]
    assert [work().dtype for _, _, work in kernels] == 2 * [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    ("flags", "emulated"),
    [("avx2", {"fp16", "bf16"}), ("avx512_bf16", {"fp16"}), ("amx_bf16", {"fp16"}), ("", {"fp16"})],
)
def test_emulated_precisions_are_not_measured(flags: str, emulated: set[str]) -> None:
    """One product in bf16 took minutes on a processor with AVX2 only."""
    assert machine._emulated(frozenset(flags.split())) == emulated


def test_openvino_multiplies_in_8_bits(recwarn: pytest.WarningsRecorder) -> None:
    pytest.importorskip("openvino")
    made = [
        (nn.Linear(16, 16, bias=False), torch.rand(16, 16)),
        (nn.Conv2d(2, 2, 3, padding=1, bias=False), torch.rand(1, 2, 64, 64)),
    ]
    for layer, inputs in made:
        exact = layer.requires_grad_(False)(inputs)
        for precision, least, most in (("fp32", 0, 1e-6), ("bf16", 0, 1e-1), ("int8", 1e-4, 1e-1)):
            (found,) = machine._openvino_kernel(layer, inputs, precision)().values()
            assert least <= (torch.from_numpy(found.copy()) - exact).abs().max() / exact.std() <= most
    assert not [each for each in recwarn if "trace" in str(each.message)]
