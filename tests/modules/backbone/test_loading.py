import json
import os
import re
import shutil
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.modules.backbone import Backbone, build_backbone, load_backbone
from metaprompts.modules.backbone.ldm_names import ldm_unet_name, ldm_vae_name
from metaprompts.modules.backbone.loading import config_names, named_config
from metaprompts.utils.tensor_files import write_tensors

UNET = {
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
}
SD2 = UNET | {"block_out_channels": [64, 128], "use_linear_projection": True, "attention_head_dim": [1, 2]}
VAE = {
    "block_out_channels": [32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
}
HUB_ID = "somebody/tiny-diffusion"


@cache
def made(linear: bool = False) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(SD2 if linear else UNET, VAE)


def ldm_state(backbone: Backbone) -> dict[str, Tensor]:
    """The content of a single-file checkpoint of the backbone."""
    rename_key = partial(ldm_unet_name, config=backbone.unet.config)
    state = {f"model.diffusion_model.{rename_key(name)}": t for name, t in backbone.unet.state_dict().items()}
    for name, tensor in backbone.vae.state_dict().items():
        wide = "mid_block.attentions" in name and tensor.ndim == 2
        if name.startswith(("encoder.", "quant_conv.")):
            state[f"first_stage_model.{ldm_vae_name(name)}"] = tensor[:, :, None, None] if wide else tensor
    return state | {
        "first_stage_model.decoder.conv_in.weight": torch.ones(1),
        "first_stage_model.post_quant_conv.bias": torch.ones(1),
        "model_ema.diffusion_modelout2bias": torch.full((4,), 99.0),
        "model_ema.decay": torch.tensor(0.9999),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(3),
        "betas": torch.ones(3),
    }


def assert_same(loaded: Backbone, expected: Backbone, *, half: bool = False) -> None:
    for part in ("unet", "vae"):
        ours, theirs = getattr(loaded, part).state_dict(), getattr(expected, part).state_dict()
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            if part == "unet" or name.startswith(("encoder.", "quant_conv.")):
                assert ours[name].dtype == torch.float32, name
                assert torch.equal(ours[name], tensor.half().float() if half else tensor), name


def refusal(source: object) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(str(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def save_folder(folder: Path, backbone: Backbone, **options: object) -> Path:
    backbone.unet.save_pretrained(folder / "unet", **options)
    backbone.vae.save_pretrained(folder / "vae", **options)
    return folder


class TestSingleFiles:
    @pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
    @pytest.mark.parametrize("linear", [False, True])
    def test_loads(self, tmp_path, suffix, linear):
        path, state = tmp_path / f"sd{suffix}", ldm_state(made(linear))
        if suffix == ".ckpt":
            torch.save({"state_dict": state, "global_step": 3}, path)
        else:
            write_tensors(path, state)
        loaded = load_backbone(str(path))
        assert_same(loaded, made(linear))
        assert loaded.unet.config.use_linear_projection is linear
        assert list(loaded.unet.config.block_out_channels) == ([64, 128] if linear else [32, 64])
        assert all(tensor.is_meta for tensor in loaded.vae.decoder.state_dict().values())

    def test_half_precision(self, tmp_path):
        state = {n: t.half() if t.is_floating_point() else t for n, t in ldm_state(made()).items()}
        write_tensors(tmp_path / "x.safetensors", state)
        assert_same(load_backbone(str(tmp_path / "x.safetensors")), made(), half=True)

    def test_all_that_is_wrong_is_named_in_the_files_names(self, tmp_path):
        state = ldm_state(made())
        del state["model.diffusion_model.input_blocks.0.0.weight"], state["first_stage_model.encoder.norm_out.bias"]
        state["model.diffusion_model.middle_block.0.out_layers.0.weight"] = torch.ones(7)
        state["model.diffusion_model.label_emb.weight"] = torch.ones(7)
        write_tensors(tmp_path / "x.safetensors", state)
        assert refusal(tmp_path / "x.safetensors") == (
            f"{tmp_path / 'x.safetensors'} does not fit this model: 2 missing: "
            "first_stage_model.encoder.norm_out.bias, model.diffusion_model.input_blocks.0.0.weight; "
            "1 unexpected: model.diffusion_model.label_emb.weight; 1 of the wrong shape: "
            "model.diffusion_model.middle_block.0.out_layers.0.weight is 7, expected 64"
        )

    def test_a_model_for_inpainting(self, tmp_path):
        state = ldm_state(made())
        state["model.diffusion_model.input_blocks.0.0.weight"] = torch.ones(32, 9, 3, 3)
        write_tensors(tmp_path / "x.safetensors", state)
        assert refusal(tmp_path / "x.safetensors").endswith(
            "x.safetensors is an inpainting model: its UNet takes 9 channels; choose a text-to-image model"
        )

    def test_embeddings_of_stable_diffusion_xl_are_not_needed(self, tmp_path):
        """Its single files hold label_emb.0.*, an embedding of pooled text and sizes, and were refused for it."""
        state = ldm_state(made(linear=True))
        state |= {f"model.diffusion_model.label_emb.0.{layer}.weight": torch.ones(4, 4) for layer in (0, 2)}
        write_tensors(tmp_path / "x.safetensors", state)
        assert_same(load_backbone(str(tmp_path / "x.safetensors")), made(linear=True))

    def test_nan(self, tmp_path):
        state = ldm_state(made())
        state["model.diffusion_model.out.2.bias"] = torch.full((4,), float("nan"))
        write_tensors(tmp_path / "x.safetensors", state)
        assert "NaN or infinity in model.diffusion_model.out.2.bias:" in refusal(tmp_path / "x.safetensors")

    def test_other_files(self, tmp_path):
        path = tmp_path / "x.safetensors"
        save_file({"weight": torch.ones(1)}, path)
        assert "has no Stable Diffusion model under LDM names: expected tensors named" in refusal(path)
        write_tensors(path, {n: t for n, t in ldm_state(made()).items() if not n.startswith("first_stage_model.")})
        assert "and 0 of them among" in refusal(path)
        path.write_text("no weights")
        assert "is not a readable .safetensors file" in refusal(path)

    def test_objects_of_lightning_are_passed_over(self, tmp_path, monkeypatch):
        """Stable Diffusion's own .ckpt files hold their training's callbacks and settings, and were refused."""
        made_up = {"pytorch_lightning": "ModelCheckpoint", "omegaconf": "DictConfig"}
        for name, kind in made_up.items():
            module = type(sys)(name)
            setattr(module, kind, type(kind, (), {"__module__": name}))
            monkeypatch.setitem(sys.modules, name, module)
        lightning, omegaconf = (sys.modules[name] for name in made_up)
        content = {
            "state_dict": ldm_state(made()),
            "callbacks": {lightning.ModelCheckpoint: {"best_model_score": torch.tensor(1.0)}},
            "hyper_parameters": omegaconf.DictConfig(),
            "optimizer_states": [],
        }
        torch.save(content, tmp_path / "x.ckpt")
        for name in made_up:
            monkeypatch.delitem(sys.modules, name)
        assert_same(load_backbone(str(tmp_path / "x.ckpt")), made())


class TestFolders:
    def test_what_diffusers_writes(self, tmp_path):
        assert_same(load_backbone(str(save_folder(tmp_path, made()))), made())

    def test_shards(self, tmp_path):
        save_folder(tmp_path, made(), max_shard_size="500KB")
        assert len(list((tmp_path / "unet").glob("*-of-*.safetensors"))) > 1
        assert_same(load_backbone(str(tmp_path)), made())

    def test_pickled_weights(self, tmp_path):
        save_folder(tmp_path, made(), safe_serialization=False)
        assert not list(tmp_path.rglob("*.safetensors"))
        assert_same(load_backbone(str(tmp_path)), made())

    @pytest.mark.parametrize("safe", [True, False])
    def test_only_a_half_precision_variant(self, tmp_path, capfd, safe):
        """A folder with only diffusion_pytorch_model.fp16.bin did not load."""
        half = build_backbone(UNET, VAE)
        half.unet.load_state_dict(made().unet.state_dict())
        half.vae.load_state_dict(made().vae.state_dict())
        half.unet.half()
        half.vae.half()
        save_folder(tmp_path, half, variant="fp16", safe_serialization=safe)
        assert [path.name for path in (tmp_path / "unet").glob("diff*")] == [
            f"diffusion_pytorch_model.fp16.{'safetensors' if safe else 'bin'}"
        ]
        capfd.readouterr()
        assert_same(load_backbone(str(tmp_path)), made(), half=True)
        assert capfd.readouterr().err == ""
        save_folder(tmp_path, made())
        assert_same(load_backbone(str(tmp_path)), made())

    def test_the_names_that_older_vae_files_use(self, tmp_path):
        """Stable Diffusion 1.5's own VAE on the hub is such a file."""
        save_folder(tmp_path, made())
        path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        state = load_file(path)
        for ours, theirs in old.items():
            state = {name.replace(f"attentions.0.{ours}.", f"attentions.0.{theirs}."): t for name, t in state.items()}
        save_file(state, path, {"format": "pt"})
        assert any("proj_attn" in name for name in state)
        assert_same(load_backbone(str(tmp_path)), made())

    def test_missing_and_unexpected_tensors(self, tmp_path):
        """diffusers only warns, and leaves the missing ones at random."""
        save_folder(tmp_path, made())
        path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
        state = load_file(path)
        del state["conv_in.bias"], state["conv_out.bias"]
        save_file(state | {"foreign": torch.ones(1)}, path, {"format": "pt"})
        assert refusal(tmp_path).endswith(
            "unet do not fit its config.json: 2 missing: conv_in.bias, conv_out.bias; 1 unexpected: foreign"
        )

    def test_wrong_shape(self, tmp_path):
        save_folder(tmp_path, made())
        path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
        save_file(load_file(path) | {"conv_in.bias": torch.ones(5)}, path, {"format": "pt"})
        assert "conv_in.bias" in refusal(tmp_path)

    def test_nan(self, tmp_path):
        save_folder(tmp_path, made())
        path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
        save_file(load_file(path) | {"quant_conv.bias": torch.full((8,), float("inf"))}, path, {"format": "pt"})
        assert "holds NaN or infinity in quant_conv.bias" in refusal(tmp_path)

    def test_incomplete_or_damaged(self, tmp_path):
        assert refusal(tmp_path).endswith("is not a diffusers folder: it lacks unet/config.json and vae/config.json")
        save_folder(tmp_path, made())
        weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10])
        assert str(tmp_path / "unet") in refusal(tmp_path)
        weights.unlink()
        assert str(tmp_path / "unet") in refusal(tmp_path)
        shutil.rmtree(tmp_path / "vae")
        assert refusal(tmp_path).endswith("it lacks vae/config.json")

    def test_broken_config(self, tmp_path):
        save_folder(tmp_path, made())
        (tmp_path / "unet" / "config.json").write_text("{")
        assert "config.json is not valid JSON" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"layers_per_block": 10**9}, "layers_per_block is 1000000000; expected 0 to 8"),
            ({"block_out_channels": [-32, 64]}, "block_out_channels is -32; expected 0 to 65536"),
            ({"block_out_channels": [32] * 99}, "block_out_channels has 99 entries; expected at most 8"),
            ({"block_out_channels": [32768, 65536]}, "parameters, but its files have only"),
            ({"block_out_channels": "wide"}, "cannot be loaded"),
            ({"attention_head_dim": 0}, "cannot be loaded"),
        ],
    )
    def test_a_config_of_absurd_sizes(self, tmp_path, change, complaint):
        """A config of a kilobyte commanded all memory, or hung."""
        save_folder(tmp_path, made())
        path = tmp_path / "unet/config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        assert complaint in refusal(tmp_path)

    def test_pickled_views_that_say_they_are_huge(self, tmp_path):
        save_folder(tmp_path, made(), safe_serialization=False)
        torch.save(
            {"conv_in.weight": torch.ones(1).expand(10**5, 10**5)}, tmp_path / "unet/diffusion_pytorch_model.bin"
        )
        assert "cannot be loaded" in refusal(tmp_path)


class TestUnfit:
    @pytest.mark.parametrize(
        ("unet", "vae", "complaint"),
        [
            ({"num_class_embeds": 10}, {}, "the UNet is class-conditional"),
            ({"class_embed_type": "timestep"}, {}, "the UNet is class-conditional"),
            (
                {"in_channels": 9},
                {},
                "the UNet is that of an inpainting model: it takes 9 channels, but the VAE outputs 4",
            ),
            ({}, {"latent_channels": 16}, "the UNet takes 4 channels, but the VAE outputs 16"),
            ({"block_out_channels": [30, 64]}, {}, "no backbone can be built from this config (ValueError"),
            ({"block_out_channels": "wide"}, {}, "no backbone can be built from this config"),
            ({"down_block_types": ["NoSuchBlock"] * 2}, {}, "no backbone can be built from this config"),
            ({}, {"block_out_channels": [32]}, "no backbone can be built from this config"),
        ],
    )
    def test_refused(self, unet, vae, complaint):
        with pytest.raises(InputError, match=re.escape(complaint)) as caught:
            build_backbone(UNET | unet, VAE | vae)
        assert "\n" not in str(caught.value)

    def test_in_a_folder(self, tmp_path):
        UNet2DConditionModel.from_config(UNET | {"num_class_embeds": 3}).save_pretrained(tmp_path / "unet")
        AutoencoderKL.from_config(VAE).save_pretrained(tmp_path / "vae")
        assert refusal(tmp_path) == "the UNet is class-conditional: choose a text-to-image model"


class TestNames:
    @pytest.mark.parametrize(
        "source", ["nothing", "/no/such/folder", "a/b/c", "models/sd.ckpt", "models/sd.safetensors", "random"]
    )
    def test_unknown(self, source):
        assert refusal(source).startswith(f"no backbone at {source}: give a hub id (owner/name), a diffusers folder")

    def test_unknown_architecture(self):
        assert refusal("random:large") == "no architecture named 'large': choose one of micro, sd15, sd21, sdxl"
        assert refusal("random:") == "no architecture named '': choose one of micro, sd15, sd21, sdxl"

    @pytest.mark.slow
    def test_shipped_architectures(self):
        for name in config_names():
            with torch.device("meta"):
                build_backbone(**named_config(name))

    def test_random_weights_follow_the_seed(self):
        states = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            states.append(load_backbone("random:micro").unet.state_dict())
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert not torch.equal(states[0]["conv_in.weight"], states[2]["conv_in.weight"])


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A cache of the hub, laid out by hand, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    return repository / "snapshots" / ("a" * 40)


class TestHub:
    def test_from_the_cache_without_network(self, hub_cache):
        save_folder(hub_cache, made())
        assert_same(load_backbone(HUB_ID), made())

    @pytest.mark.full
    def test_a_program_of_its_own_with_HF_HOME(self, tmp_path):
        snapshot = tmp_path / "hub" / f"models--{HUB_ID.replace('/', '--')}" / "snapshots" / ("b" * 40)
        save_folder(snapshot, made())
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("b" * 40)
        code = (
            "from metaprompts.modules.backbone import load_backbone; "
            f"print(load_backbone({HUB_ID!r}).unet.config.in_channels)"
        )
        environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["4"]

    def test_not_in_the_cache(self, hub_cache):
        start = time.monotonic()
        assert refusal("nobody/nothing") == (
            "no nobody/nothing: neither a local folder nor available on the Hub (LocalEntryNotFoundError): check the "
            "name and the network"
        )
        assert time.monotonic() - start < 5

    def test_half_in_the_cache(self, hub_cache):
        made().unet.save_pretrained(hub_cache / "unet")
        assert refusal(HUB_ID).endswith("it lacks vae/config.json")

    @pytest.mark.parametrize("error", [ConnectionError("no route"), RuntimeError("client"), ValueError("bad id")])
    def test_whatever_the_client_raises_is_one_line(self, monkeypatch, error):
        def fail(*args, **options):
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
        assert f"({type(error).__name__})" in refusal(HUB_ID)

    def test_only_one_precision_is_fetched(self, tmp_path, monkeypatch):
        """Stable Diffusion 1.5's repository holds its UNet four times, 12 GB in all."""
        asked = []

        def download(source, *, allow_patterns):
            asked.extend(allow_patterns)
            return str(tmp_path)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        save_folder(tmp_path, made())
        load_backbone(HUB_ID)
        held = [f"unet/diffusion_pytorch_model{kind}" for kind in (".safetensors", ".fp16.safetensors", ".bin")]
        held += [
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "text_encoder/model.safetensors",
            "unet/config.json",
        ]
        assert [name for name in held if any(Path(name).match(pattern) for pattern in asked)] == [held[0], held[-1]]

    def test_half_precision_is_fetched_where_there_is_no_other(self, tmp_path, monkeypatch):
        asked = []

        def download(source, *, allow_patterns):
            asked.append(allow_patterns)
            return str(tmp_path)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        made().unet.save_pretrained(tmp_path / "unet")
        made().vae.save_pretrained(tmp_path / "vae", variant="fp16")
        load_backbone(HUB_ID)
        assert len(asked) == 2
        assert asked[1][0] == "vae/diffusion_pytorch_model.fp16.safetensors"
        assert not any(pattern.startswith("unet/") for pattern in asked[1])
