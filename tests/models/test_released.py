"""Reading the authors' checkpoints. That the numbers come out right is the golden tests' matter."""

import argparse
import os
import re
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import metaprompts.models.released
from golden import golden_state, layout, needs_golden
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.released import PRESETS, import_released
from metaprompts.modules.backbone import build_backbone, load_backbone
from metaprompts.utils.tensor_files import write_tensors
from slow import slow_except

pytestmark = needs_golden

# preset -> layout
LAYOUTS = {
    "nyu": "depth_nyu_tiny",
    "kitti": "depth_nyu_tiny",
    "ade20k": "seg_ade_tiny",
    "cityscapes": "seg_cityscapes_tiny",
}
PREFIX = {"nyu": "encoder.", "kitti": "encoder.", "ade20k": "", "cityscapes": ""}
UNET = "unet.unet.diffusion_model."


@cache
def whole(name: str) -> dict[str, Tensor]:
    return golden_state(name)


def state_for(preset: str) -> dict[str, Tensor]:
    return dict(whole(LAYOUTS[preset]))


@cache
def shapes(name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return {key: torch.empty(shape) for key, shape in layout(name)["shapes"].items()}


def config_of(tensors: dict[str, Tensor], preset: str) -> ModelConfig:
    return metaprompts.models.released._config(tensors, preset, "the file")


@cache
def imported_nyu() -> MetaPromptModel:
    return import_released(state_for("nyu"), "nyu")


EMPTY = MetaPromptModel.from_config
BUILT: dict[str, MetaPromptModel] = {}


def empty_of(config: ModelConfig) -> MetaPromptModel:
    if str(config) not in BUILT:
        BUILT[str(config)] = EMPTY(config)
    return BUILT[str(config)]


@pytest.fixture(autouse=True)
def copied_empty(monkeypatch):
    """Building an empty model takes half a second, copying one a tenth of it."""
    monkeypatch.setattr(MetaPromptModel, "from_config", lambda config: deepcopy(empty_of(config)))


@pytest.fixture
def cached_empty(copied_empty, monkeypatch):
    """Refused files never touch the model, so the same one will do."""
    monkeypatch.setattr(MetaPromptModel, "from_config", empty_of)


def refusal(source: object, preset: str) -> str:
    with pytest.raises(InputError) as caught:
        import_released(source, preset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def unused(name: str) -> bool:
    """The tensors that METHOD.md documents as unused."""
    return bool(re.search(r"^sd_model\.|encoder_vq\.post_quant_conv\.|diffusion_model\.time_embed\.", name))


def one_step(preset: str) -> dict[str, Tensor]:
    """A file of K = 1."""
    return {
        name: tensor
        for name, tensor in state_for(preset).items()
        if not re.match(PREFIX[preset] + r"(t|meta_prompts|text_adapter|cross_unet_conv)[23](\.|$)", name)
    }


class TestWholeFiles:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_config(self, preset):
        config = config_of(shapes(LAYOUTS[preset]), preset)
        is_depth = preset in ("nyu", "kitti")
        assert config.task.name == ("depth" if is_depth else "segmentation")
        assert config.prompts.count == (50 if is_depth else 150)
        assert config.prompts.per_step is config.prompts.adapter is is_depth
        assert config.refinement.steps == 3
        assert config.backbone.unet["block_out_channels"] == [32, 64, 128, 128]
        assert config.backbone.unet["cross_attention_dim"] == 64
        assert config.backbone.unet["attention_head_dim"] == 8
        assert config.backbone.vae["block_out_channels"] == [32, 64, 128, 128]
        if is_depth:
            assert (config.task.max_depth_m, config.task.margin_blocks) == ((10, 1) if preset == "nyu" else (80, 2))
            assert (config.task.filters, config.task.width) == (32, 192)
        else:
            assert len(config.task.classes) == (150 if preset == "ade20k" else 19)
            assert config.task.classes[0] == ("wall" if preset == "ade20k" else "road")
            assert (config.task.width, config.task.dropout) == (32, 0.0 if preset == "ade20k" else 0.1)
        assert ModelConfig.from_dict(config.to_dict()) == config

    @pytest.mark.parametrize(
        ("name", "preset", "total", "trainable"),
        [
            ("depth_nyu_full", "nyu", 923_575_273, 889_411_589),
            ("seg_ade_full", "ade20k", 946_182_612, 912_018_928),
            ("seg_cityscapes_full", "cityscapes", 946_048_206, 911_884_522),
        ],
    )
    def test_parameter_counts_at_full_width(self, name, preset, total, trainable):
        """METHOD.md's totals less what is not used: the VAE's post_quant_conv (20) and segmentation's time MLP."""
        time_mlp = sum(tensor.numel() for key, tensor in shapes(name).items() if "time_embed" in key)
        assert time_mlp == (0 if preset == "nyu" else 2_050_560)
        model = MetaPromptModel.from_config(config_of(shapes(name), preset))
        assert sum(p.numel() for p in model.parameters()) == total - 20 - time_mlp
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable - time_mlp

    @pytest.mark.parametrize("preset", ["nyu", "ade20k"])
    def test_every_tensor_but_the_unused_lands_in_the_model(self, preset):
        state = state_for(preset)
        model = import_released(state, preset)
        assert not model.training
        taken = {tensor.data_ptr() for tensor in model.state_dict().values()}
        idle = {name for name, tensor in state.items() if tensor.data_ptr() not in taken}
        assert {name for name in idle if "cross_unet_conv" not in name} == {name for name in state if unused(name)}

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: {"model": state, "optimizer": {"lr": 1.0}, "epoch": 3},
            lambda state: {"state_dict": state, "meta": {"iter": 80000, "CLASSES": ("wall",), "PALETTE": [[1, 2, 3]]}},
            lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
            lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        ],
    )
    def test_wrappings(self, wrap):
        expected = imported_nyu().state_dict()
        found = import_released(wrap(state_for("nyu")), "nyu").state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)

    @pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
    def test_files(self, tmp_path, suffix):
        path = tmp_path / f"nyu{suffix}"
        if suffix == ".safetensors":
            write_tensors(path, state_for("nyu"))
        else:
            torch.save({"model": state_for("nyu"), "args": argparse.Namespace(max_depth=10.0)}, path)
        found = import_released(path, "nyu").state_dict()
        expected = imported_nyu().state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
    def test_half_precision_loads_as_float32(self, kind):
        state = {n: t.to(kind) if t.is_floating_point() else t for n, t in state_for("nyu").items()}
        model = import_released(state, "nyu")
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert torch.equal(model.prompts.sets[1], state["encoder.meta_prompts2"].float())
        assert model.head.enlarge[1].num_batches_tracked.dtype == torch.int64

    @pytest.mark.parametrize("preset", ["nyu", "cityscapes"])
    @pytest.mark.parametrize("with_output", slow_except([True, False], False))
    def test_one_step(self, preset, with_output):
        state = one_step(preset)
        if not with_output:
            state = {name: tensor for name, tensor in state.items() if f"{UNET}out." not in name}
        model = import_released(state, preset)
        assert model.config.refinement.steps == 1
        assert model.unet.conv_out is None
        assert model(torch.rand(1, 3, 64, 64)).isfinite().all()

    @pytest.mark.parametrize("preset", ["nyu", "ade20k"])
    def test_two_steps(self, preset):
        state = state_for(preset)
        three = re.compile(PREFIX[preset] + r"(t|meta_prompts|text_adapter|cross_unet_conv)3(\.|$)")
        state = {name: tensor for name, tensor in state.items() if not three.match(name)}
        assert import_released(state, preset).config.refinement.steps == 2

    def test_other_numbers_of_classes_and_prompts(self):
        state = state_for("ade20k")
        for name in state:
            if "conv_seg" in name:
                state[name] = state[name][:7]
        model = import_released(state, "ade20k")
        assert model.config.task.classes == tuple(f"class {index}" for index in range(7))


class TestWrongFiles:
    @pytest.mark.parametrize("preset", ["nyu", "ade20k"])
    @pytest.mark.parametrize("number", ["100000000", "9" * 5000])
    def test_a_step_of_a_huge_number(self, preset, number, cached_empty):
        """A tensor named encoder.t100000000 hung the importer."""
        state = state_for(preset)
        extra = f"{PREFIX[preset]}t{number}"
        assert f"1 unexpected: {extra}" in refusal({**state, extra: state[f"{PREFIX[preset]}t1"]}, preset)

    def test_a_transformer_of_a_huge_number(self, cached_empty):
        state = state_for("nyu")
        name = next(name for name in state if ".transformer_blocks.0." in name)
        extra = name.replace("transformer_blocks.0.", "transformer_blocks.999999.")
        assert extra in refusal({**state, extra: state[name]}, "nyu")

    @pytest.mark.slow
    @pytest.mark.parametrize("preset", ["nyu", "ade20k"])
    def test_no_single_missing_tensor_changes_what_the_file_is_read_as(self, preset):
        tensors = shapes(LAYOUTS[preset])
        expected = config_of(tensors, preset)
        # What is inside the transformers is alike in all of them.
        inside = re.compile(r"put_blocks\.[2-9]\d?\.1\.transformer_blocks\.0\.(norm|ff|attn1)|put_blocks.*\.bias$")
        for name in (name for name in tensors if not inside.search(name)):
            assert config_of({n: t for n, t in tensors.items() if n != name}, preset) == expected, name

    @pytest.mark.parametrize("preset", ["nyu", "ade20k"])
    def test_no_single_wrong_shape_changes_what_the_file_is_read_as(self, preset):
        """Of the tensors that widths are read from; the others have no say."""
        tensors = shapes(LAYOUTS[preset])
        expected = config_of(tensors, preset)
        read = (
            r"input_blocks\.(0|1\.0|10)\.|\.out\.2|down\.0\.block\.0|quant|conv_out|prompts|^decoder\.|s\.0\.conv|_seg"
        )
        for name in (n for n in tensors if re.search(read, n)):
            for axis in range(min(tensors[name].ndim, 2)):
                shape = list(tensors[name].shape)
                shape[axis] += 2
                assert config_of(tensors | {name: torch.empty(shape, device="meta")}, preset) == expected, name

    @pytest.mark.parametrize("preset", ["nyu", "ade20k"])
    def test_a_missing_tensor_is_named_and_nothing_else(self, preset, cached_empty):
        state = state_for(preset)
        for name in [
            *list(state)[::41],
            *(n for n in state if re.search(r"(t\d|prompts\d?|conv3\.2\.bias|\.op\.bias)$", n)),
        ]:
            lacking = {n: t for n, t in state.items() if n != name}
            if not unused(name):
                assert refusal(lacking, preset) == f"the state dict does not fit this model: 1 missing: {name}"

    @pytest.mark.parametrize("preset", ["nyu", "ade20k"])
    def test_the_unused_tensors_may_be_absent(self, preset):
        state = {name: tensor for name, tensor in state_for(preset).items() if not unused(name)}
        assert len(state) < len(state_for(preset))
        import_released(state, preset)

    def test_many_missing_tensors(self, cached_empty):
        gone = [
            "encoder.t3", "encoder.meta_prompts1", "decoder.deconv_layers.0.weight", "decoder.conv_layers.0.weight",
            f"encoder.{UNET}input_blocks.0.0.weight", f"encoder.{UNET}input_blocks.1.0.out_layers.3.weight",
            f"encoder.{UNET}input_blocks.3.0.op.weight", f"encoder.{UNET}input_blocks.3.0.op.bias",
            f"encoder.{UNET}out.2.weight", "encoder.encoder_vq.quant_conv.weight", "encoder.cross_unet_conv2.0.bias",
            "encoder.encoder_vq.encoder.down.0.block.0.conv2.weight", "last_layer_depth.2.bias",
        ]  # fmt: skip
        state = {name: tensor for name, tensor in state_for("nyu").items() if name not in gone}
        expected = f"the state dict does not fit this model: 13 missing: {', '.join(sorted(gone))}"
        assert refusal(state, "nyu") == expected

    def test_a_whole_missing_block(self, cached_empty):
        block = f"{UNET}input_blocks.6.0."
        gone = sorted(name for name in state_for("ade20k") if name.startswith((block, "upconv2.")))
        state = {name: tensor for name, tensor in state_for("ade20k").items() if name not in gone}
        assert refusal(state, "ade20k").endswith(f"{len(gone)} missing: {', '.join(gone)}")

    @pytest.mark.parametrize(
        ("preset", "name"),
        [
            ("nyu", f"encoder.{UNET}input_blocks.0.0.weight"),
            ("nyu", f"encoder.{UNET}input_blocks.1.0.out_layers.3.weight"),
            ("nyu", f"encoder.{UNET}out.2.weight"),
            ("nyu", "encoder.encoder_vq.quant_conv.weight"),
            ("nyu", "encoder.encoder_vq.encoder.down.1.block.0.conv2.weight"),
            ("nyu", "encoder.meta_prompts1"),
            ("nyu", "encoder.t1"),
            ("nyu", "decoder.deconv_layers.0.weight"),
            ("ade20k", f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"),
            ("ade20k", "meta_prompts"),
            ("ade20k", "decode_head.conv_seg.weight"),
            ("ade20k", "decode_head.lateral_convs.0.conv.weight"),
        ],
    )
    def test_a_wrong_shape_is_named_with_both_shapes_and_nothing_else(self, preset, name, cached_empty):
        state = state_for(preset)
        right = state[name].shape
        wrong = (right[0] + 2, *right[1:])
        if "out.2.weight" in name:
            for alias in ("encoder.cross_unet_conv2.2.weight", "encoder.cross_unet_conv3.2.weight"):
                state[alias] = torch.zeros(wrong)
        state[name] = torch.zeros(wrong)
        written = ["x".join(map(str, shape)) for shape in (wrong, right)]
        assert refusal(state, preset) == (
            "the state dict does not fit this model: 1 of the wrong shape: "
            f"{name} is {written[0]}, expected {written[1]}"
        )

    @pytest.mark.parametrize(
        "extra",
        [
            "something.else",
            "encoder.t4",
            "encoder.text_adapter4.fc.0.weight",
            f"encoder.{UNET}input_blocks.12.0.in_layers.0.weight",
            f"encoder.{UNET}input_blocks.10.1.transformer_blocks.0.norm1.weight",
            f"encoder.{UNET}label_emb.0.0.weight",
            "encoder.encoder_vq.encoder.down.7.block.5.norm1.weight",
            "encoder.encoder_vq.decoder.conv_in.weight",
        ],
    )
    def test_an_unexpected_tensor_is_named_and_nothing_else(self, extra, cached_empty):
        state = state_for("nyu") | {extra: torch.ones(3)}
        assert refusal(state, "nyu") == f"the state dict does not fit this model: 1 unexpected: {extra}"

    def test_copies_of_the_tied_layer_that_differ(self):
        state = state_for("nyu")
        state["encoder.cross_unet_conv3.2.bias"] = state["encoder.cross_unet_conv3.2.bias"] + 1e-3
        assert refusal(state, "nyu") == (
            "the state dict holds different values for one tied layer: encoder.cross_unet_conv3.2.bias and "
            f"encoder.{UNET}out.2.bias"
        )

    def test_nan(self, cached_empty):
        state = state_for("ade20k")
        state["upconv3.0.weight"] = state["upconv3.0.weight"].clone().fill_(float("nan"))
        assert "holds NaN or infinity in upconv3.0.weight:" in refusal(state, "ade20k")

    def test_quantized(self, cached_empty):
        state = state_for("ade20k")
        state["upconv3.0.weight"] = state["upconv3.0.weight"].to(torch.int8)
        assert "1 of the wrong type: upconv3.0.weight is int8, expected a floating type" in refusal(state, "ade20k")

    @pytest.mark.parametrize(
        ("held", "preset", "advice"),
        [
            (
                "nyu",
                "ade20k",
                "but a released depth checkpoint: choose the preset nyu or kitti",
            ),
            ("ade20k", "nyu", "but a released segmentation checkpoint: choose the preset ade20k or cityscapes"),
            ("cityscapes", "kitti", "but a released segmentation checkpoint: choose the preset ade20k or cityscapes"),
            ("cityscapes", "ade20k", "the checkpoint has 19 classes, but preset ade20k has 150: choose cityscapes"),
            ("ade20k", "cityscapes", "the checkpoint has 150 classes, but preset cityscapes has 19: choose ade20k"),
        ],
    )
    def test_wrong_preset(self, held, preset, advice):
        assert refusal(state_for(held), preset).endswith(advice)

    def test_unknown_preset(self):
        assert refusal({}, "NYU") == "no preset named 'NYU': choose one of nyu, kitti, ade20k, cityscapes"

    def test_other_models(self):
        network = load_backbone("random:micro").unet
        assert "a diffusers UNet" in refusal(network.state_dict(), "nyu")
        assert "a Stable Diffusion checkpoint" in refusal({"model.diffusion_model.out.0.bias": torch.ones(1)}, "nyu")
        ours = {f"latent_encoder.{name}": tensor for name, tensor in nn.Linear(2, 2).state_dict().items()}
        assert "use metaprompts.load" in refusal(ours, "ade20k")
        assert refusal(nn.Linear(2, 2).state_dict(), "nyu").endswith(
            f"is not a released checkpoint: expected tensors named encoder.{UNET}*, found 2 others (bias, weight)"
        )
        assert "cannot be loaded" not in refusal({f"{UNET}out.0.bias": torch.ones(1)}, "ade20k")

    def test_no_tensors(self):
        assert refusal({}, "nyu").startswith("the state dict holds no tensors")
        assert refusal({"model": state_for("nyu") | {"epoch": 3}}, "nyu").endswith(
            "that are not tensors: epoch (int); remove them"
        )

    def test_wrong_paths(self, tmp_path):
        assert refusal(tmp_path / "missing.pth", "nyu").startswith(f"no weights at {tmp_path / 'missing.pth'}")
        assert "which is a folder" in refusal(str(tmp_path), "nyu")

    def test_code_is_not_run(self, tmp_path):
        class Code:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'trace'}",)

        torch.save({"model": state_for("nyu"), "args": Code()}, tmp_path / "x.pth")
        assert "was refused: it holds a Python object or code (posix.system)" in refusal(tmp_path / "x.pth", "nyu")
        assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_training_in_place_does_not_change_the_file(tmp_path, suffix):
    """The model's weights are the mapped file itself, so a shared mapping would write every step to disk."""
    path = tmp_path / f"x{suffix}"
    if suffix == ".safetensors":
        write_tensors(path, state_for("nyu"))
    else:
        torch.save({"model": state_for("nyu")}, path)
    before = path.read_bytes()
    model = import_released(path, "nyu").train()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    os.sync()
    assert path.read_bytes() == before
    assert torch.equal(model.prompts.sets[0], state_for("nyu")["encoder.meta_prompts1"] + 1)


@pytest.mark.slow
def test_an_imported_model_saves_and_reads_back(tmp_path):
    model = import_released(state_for("cityscapes"), "cityscapes")
    model.save(tmp_path)
    read = MetaPromptModel.from_pretrained(tmp_path)
    assert read.config == model.config
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(read(images), model(images))


def test_an_imported_backbone_can_be_built_on(tmp_path):
    config = config_of(shapes("depth_nyu_tiny"), "nyu")
    backbone = build_backbone(config.backbone.unet, config.backbone.vae)
    assert backbone.unet.config.in_channels == backbone.vae.config.latent_channels == 4


MEASURE = """
import sys, time
from pathlib import Path
import metaprompts

def peak():
    # VmHWM is of this program alone; ru_maxrss would count what the process was before it became this program.
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))

start = time.monotonic()
if sys.argv[1] == "import":
    metaprompts.import_released(sys.argv[2], "nyu").save(sys.argv[3])
else:
    metaprompts.load(sys.argv[2])
print(peak(), time.monotonic() - start)
"""

MAKE = """
import json, sys, torch
from pathlib import Path
from metaprompts.utils.tensor_files import read_tensors, write_tensors

path, shapes = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())["shapes"]
tensors = {name: torch.tensor(0.01).expand(shape) for name, shape in shapes.items()}
write_tensors(path.with_suffix(".safetensors"), tensors)
if path.suffix == ".pth":
    torch.save({"model": read_tensors(path.with_suffix(".safetensors"))}, path)
    path.with_suffix(".safetensors").unlink()
"""


def run(code: str, *arguments: object) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_peak_memory_at_full_width(tmp_path, suffix):
    """A 3.7 GB file is imported, saved and loaded in less than 1.5 times its size, PyTorch's own memory included."""
    from golden import GOLDEN

    if not Path("/proc/self/status").is_file():
        pytest.skip("needs /proc")
    path, out = tmp_path / f"nyu{suffix}", tmp_path / "model"
    try:
        run(MAKE, path, GOLDEN / "layout_depth_nyu_full.json")
        size = path.stat().st_size
        assert size > 3.6e9
        for arguments in (("import", path, out), ("load", out)):
            peak, seconds = run(MEASURE, *arguments)
            line = f"{arguments[0]} {suffix}: peak {peak / 1e9:.2f} GB, {peak / size:.2f} x the file, {seconds:.0f} s"
            print(line)  # noqa: T201
            assert peak < 1.5 * size
    finally:
        for file in [path, path.with_suffix(".safetensors"), *out.glob("*")]:
            file.unlink(missing_ok=True)
