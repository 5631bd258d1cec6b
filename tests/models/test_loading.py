"""Saving and loading models: folders, the hub, and everything that can be wrong with them."""

import json
import re
from functools import cache
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import metaprompts
from metaprompts.errors import InputError
from metaprompts.models.config import Prompts, Refinement
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks import Depth, Segmentation
from metaprompts.utils.device import pick_device
from metaprompts.utils.files import write_json
from metaprompts.utils.tensor_files import write_tensors

HUB_ID = "somebody/tiny-depth"


def build(task=None, **settings) -> MetaPromptModel:
    torch.manual_seed(0)
    settings = {"prompts": Prompts(count=5), "refinement": Refinement(steps=2), **settings}
    return MetaPromptModel.from_backbone("random:micro", task=task or Depth(max_depth_m=10.0), **settings).eval()


@cache
def model() -> MetaPromptModel:
    return build()


@pytest.fixture
def saved(tmp_path):
    model().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def config_path(tmp_path):
    """The config of a model that is refused before its weights are searched."""
    write_json(tmp_path / "config.json", model().config.to_dict())
    return tmp_path / "config.json"


def assert_same(found: MetaPromptModel, expected: MetaPromptModel) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor), name
    assert found.config == expected.config


def refusal(source: object) -> str:
    with pytest.raises(InputError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestRoundTrip:
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(model, marks=pytest.mark.slow),
            lambda: build(Segmentation(classes=("a", "b", "c"), width=16), prompts=Prompts(count=7)),
            lambda: build(refinement=Refinement(steps=1), prompts=Prompts(count=3, per_step=True, adapter=True)),
        ],
    )
    def test_bitwise(self, tmp_path, make):
        model = make()
        model.save(tmp_path)
        read = MetaPromptModel.from_pretrained(tmp_path)
        assert_same(read, model)
        assert not read.training
        assert [n for n, p in read.named_parameters() if p.requires_grad] == [
            n for n, p in model.named_parameters() if p.requires_grad
        ]
        images = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            assert torch.equal(read(images), model(images))

    def test_a_bfloat16_model_comes_back_with_its_values_in_float32(self, tmp_path):
        half = build().bfloat16()
        half.save(tmp_path)
        assert load_file(tmp_path / "model.safetensors")["prompts.sets.0"].dtype == torch.bfloat16
        read = MetaPromptModel.from_pretrained(tmp_path)
        assert {p.dtype for p in read.parameters()} == {torch.float32}
        assert_same(read.bfloat16(), half)

    def test_after_training_steps(self, tmp_path):
        trained = build().train()
        trained(torch.rand(2, 3, 64, 64)).mean().backward()
        torch.optim.SGD(trained.parameters(), lr=0.1).step()
        trained.save(tmp_path)
        assert_same(load(tmp_path), trained)

    @pytest.mark.slow
    def test_a_loaded_model_trains_without_changing_its_file(self, saved):
        before = (saved / "model.safetensors").read_bytes()
        loaded = load(saved).train()
        loaded(torch.rand(2, 3, 64, 64)).mean().backward()
        torch.optim.SGD(loaded.parameters(), lr=0.1).step()
        assert not torch.equal(loaded.prompts.sets[0], model().prompts.sets[0])
        assert (saved / "model.safetensors").read_bytes() == before

    def test_a_loaded_model_can_be_saved_over_itself(self, saved):
        loaded = load(saved)
        with torch.no_grad():
            loaded.prompts.sets[0].add_(1)
        loaded.save(saved)
        assert_same(load(saved), loaded)

    def test_the_same_model_makes_the_same_files(self, tmp_path):
        model().save(tmp_path / "1")
        build().save(tmp_path / "2")
        for name in ("config.json", "model.safetensors"):
            assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()

    def test_config_is_plain_and_readable(self, saved):
        text = (saved / "config.json").read_text()
        config = json.loads(text)
        assert list(config)[:2] == ["task", "backbone"]
        assert config["task"]["name"] == "depth"
        assert config["refinement"]["steps"] == 2
        assert config["refinement"]["modulated_time"] is True
        assert '\n  "refinement": {\n    "steps": 2,' in text
        assert not any(key.startswith("_") for part in ("unet", "vae") for key in config["backbone"][part])

    def test_only_weights_config_and_card(self, saved):
        assert sorted(path.name for path in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
        with safe_open(saved / "model.safetensors", framework="pt") as file:
            assert file.metadata() == {"format": "pt"}

    @pytest.mark.slow
    def test_load_takes_paths_strings_and_devices(self, saved):
        assert load(str(saved)).device == load(saved, "cpu").device == torch.device("cpu")
        # At the top level it may also open an engine.
        assert metaprompts.load(str(saved), "cpu").device == torch.device("cpu")
        assert metaprompts.load(saved, "cpu", engine="eager").engine == "eager"


class TestSaving:
    def test_where_a_file_is(self, tmp_path):
        (tmp_path / "file").write_text("kept")
        with pytest.raises(InputError, match=r"cannot write .*file is not a folder; nothing was changed"):
            model().save(tmp_path / "file")
        assert (tmp_path / "file").read_text() == "kept"

    def test_a_failure_leaves_the_old_model(self, saved, monkeypatch):
        before = {path.name: path.read_bytes() for path in saved.iterdir()}

        def full(handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            build(Depth(max_depth_m=80.0)).save(saved)
        assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


class TestRefusals:
    def test_missing(self, tmp_path):
        for source in (tmp_path / "none", "none", "./none", "a/b/c"):
            assert refusal(source).startswith(
                f"no model at {source}: give a folder with config.json and model.safetensors"
            )

    def test_a_file_in_the_place_of_the_folder(self, saved):
        assert refusal(saved / "model.safetensors").startswith(
            f"no model at {saved / 'model.safetensors'}: give a folder"
        )

    def test_an_incomplete_folder(self, saved):
        (saved / "model.safetensors").unlink()
        assert refusal(saved).startswith(f"no weights at {saved / 'model.safetensors'}")
        (saved / "config.json").unlink()
        assert refusal(saved) == f"cannot read {saved / 'config.json'}: No such file or directory"

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (
                lambda c: c["refinement"].update(stepps=3),
                "unknown key refinement.stepps: did you mean refinement.steps?",
            ),
            (lambda c: c.update(promts={}), "unknown key promts: did you mean prompts?"),
            (lambda c: c["task"].update(max_depth=3), "unknown key task.max_depth: did you mean task.max_depth_m?"),
            (lambda c: c["task"].update(name="detph"), "task.name is 'detph'; expected one of"),
            (lambda c: c["refinement"].update(steps=0), "refinement.steps is 0; expected 1 to 64"),
            (lambda c: c.pop("backbone"), "not from a metaprompts model"),
            (lambda c: c.update(task="depth"), "task is 'depth'; expected a section of keys"),
            (lambda c: c["backbone"]["unet"].update(block_out_channels=[30, 1]), "no backbone can be built"),
            (lambda c: c["backbone"]["unet"].update(down_block_types=["AttnDownBlock2D"] * 4), "AttnDownBlock2D"),
            (lambda c: c["backbone"]["unet"].update(num_class_embeds=5), "class-conditional"),
        ],
    )
    def test_wrong_config(self, config_path, change, complaint):
        config = json.loads(config_path.read_text())
        change(config)
        config_path.write_text(json.dumps(config))
        line = refusal(config_path.parent)
        assert complaint in line
        assert str(config_path) in line

    @pytest.mark.parametrize(
        "content", ['{"model_type": "bert"}', "[]", "3", '{"_class_name": "UNet2DConditionModel"}']
    )
    def test_the_config_of_another_library(self, config_path, content):
        config_path.write_text(content)
        assert refusal(config_path.parent).startswith(
            f"{config_path}: this config.json is not from a metaprompts model"
        )

    def test_broken_json(self, config_path):
        config_path.write_text('{"task": ')
        assert refusal(config_path.parent).startswith(f"{config_path} is not valid JSON")

    def test_truncated_weights(self, saved):
        path = saved / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        assert refusal(saved).startswith(f"{path} is not a readable .safetensors file")

    def test_wrong_weights(self, saved):
        path = saved / "model.safetensors"
        state = load_file(path)
        del state["prompts.sets.0"], state["head.convolve.1.running_mean"]
        state |= {"extra": torch.ones(1), "refinement.time.1": torch.ones(1, 3)}
        write_tensors(path, state)
        assert refusal(saved) == (
            f"{path} does not fit this model: 2 missing: head.convolve.1.running_mean, prompts.sets.0; 1 unexpected: "
            "extra; 1 of the wrong shape: refinement.time.1 is 1x3, expected 1x128"
        )

    def test_nan(self, saved):
        path = saved / "model.safetensors"
        state = load_file(path)
        state["refinement.time.0"] = state["refinement.time.0"] * float("nan")
        write_tensors(path, state)
        assert "holds NaN or infinity in refinement.time.0:" in refusal(saved)

    @pytest.mark.parametrize("device", ["warp", "cuda:99", "meta:x"])
    def test_unknown_device(self, device):
        with pytest.raises(InputError, match=f"device '{device}' is unavailable"):
            pick_device(device)

    def test_the_device_is_checked_before_the_weights_are_read(self, tmp_path):
        with pytest.raises(InputError, match="device"):
            load(tmp_path / "none", "warp")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """The snapshot folder of a hub cache that is laid out by hand."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c" * 40)
    return repository / "snapshots" / ("c" * 40)


class TestHub:
    def test_from_the_cache(self, offline):
        model().save(offline)
        assert_same(load(HUB_ID), model())
        assert_same(MetaPromptModel.from_pretrained(HUB_ID, revision="main", local_files_only=True), model())

    def test_not_in_the_cache(self, offline):
        assert refusal("nobody/nothing").startswith(
            "no nobody/nothing: neither a local folder nor available on the Hub"
        )
        with pytest.raises(InputError, match="no nobody/nothing"):
            MetaPromptModel.from_pretrained("nobody/nothing")

    def test_half_in_the_cache(self, offline):
        model().save(offline)
        (offline / "model.safetensors").unlink()
        assert "no weights at" in refusal(HUB_ID)

    def test_each_file_is_asked_for_once(self, saved, monkeypatch):
        """huggingface_hub's own from_pretrained asks for each file, and retries for 24 s without a network."""
        asked = []

        def download(source, **options):
            asked.append((source, options))
            return str(saved)

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        assert_same(MetaPromptModel.from_pretrained(HUB_ID, revision="v1", token="x"), model())
        patterns = ["config.json", "model.safetensors"]
        assert asked == [(HUB_ID, {"allow_patterns": patterns, "revision": "v1", "token": "x"})]

    def test_save_pretrained_and_from_pretrained(self, tmp_path):
        model().save_pretrained(tmp_path / "model")
        assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
            "README.md",
            "config.json",
            "model.safetensors",
        ]
        model().save(tmp_path / "saved")
        assert (tmp_path / "model" / "config.json").read_text() == (tmp_path / "saved" / "config.json").read_text()
        assert_same(MetaPromptModel.from_pretrained(tmp_path / "model"), model())
        assert_same(MetaPromptModel.from_pretrained(str(tmp_path / "model")), model())

    def test_push_to_hub(self, tmp_path, monkeypatch):
        calls = {}

        class Api:
            def __init__(self, **options):
                calls["token"] = options["token"]

            def create_repo(self, repo_id, **options):
                calls["repository"] = repo_id
                return type("Url", (), {"repo_id": repo_id})

            def upload_folder(self, *, repo_id, folder_path, commit_message, **options):
                calls["message"] = commit_message
                calls["files"] = sorted(path.name for path in Path(folder_path).iterdir())
                calls["model"] = MetaPromptModel.from_pretrained(folder_path)
                calls["card"] = (Path(folder_path) / "README.md").read_text()
                return "url of the commit"

        monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
        assert model().push_to_hub(HUB_ID, commit_message="First", token="secret") == "url of the commit"
        assert calls["repository"] == HUB_ID
        assert (calls["token"], calls["message"]) == ("secret", "First")
        assert calls["files"] == ["README.md", "config.json", "model.safetensors"]
        assert re.search(r"library_name: metaprompts", calls["card"])
        assert_same(calls["model"], model())


class TestOnBackbone:
    def test_follows_the_seed(self):
        one, two = build(), build()
        assert_same(one, two)
        torch.manual_seed(1)
        other = MetaPromptModel.from_backbone("random:micro", task=Depth(max_depth_m=10.0), prompts=Prompts(count=5))
        assert not torch.equal(other.prompts.sets[0], one.prompts.sets[0])
        assert not torch.equal(other.unet.conv_in.weight, one.unet.conv_in.weight)

    @pytest.mark.slow
    def test_from_a_saved_diffusers_folder(self, tmp_path):
        from metaprompts.modules.backbone import load_backbone

        torch.manual_seed(3)
        backbone = load_backbone("random:micro")
        backbone.unet.save_pretrained(tmp_path / "unet")
        backbone.vae.save_pretrained(tmp_path / "vae")
        built = MetaPromptModel.from_backbone(str(tmp_path), task=Depth(max_depth_m=10.0), prompts=Prompts(count=5))
        assert torch.equal(built.unet.conv_in.weight, backbone.unet.conv_in.weight)
        assert torch.equal(built.latent_encoder.quant_conv.weight, backbone.vae.quant_conv.weight)
        built.save(tmp_path / "model")
        assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()
        assert_same(load(tmp_path / "model"), built.eval())

    def test_unknown_source(self):
        with pytest.raises(InputError, match="no architecture named 'tiny'"):
            MetaPromptModel.from_backbone("random:tiny", task=Depth(max_depth_m=10.0))
