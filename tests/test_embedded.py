"""Models inside the package, found by their names."""

import pytest
import torch

import metaprompts
from metaprompts import embedded
from metaprompts.errors import InputError
from metaprompts.modules.backbone.loading import load_backbone, with_random_unet
from small import small_model


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A package with one task model and the miniature, both with random weights."""
    small_model("depth").save(tmp_path / "micro-depth", dtype=torch.float16)
    backbone = load_backbone("random:micro")
    backbone.unet.save_pretrained(tmp_path / "micro" / "unet")
    backbone.vae.save_pretrained(tmp_path / "micro" / "vae")
    monkeypatch.setattr(embedded, "_home", lambda: tmp_path)
    return tmp_path


def test_a_task_model_loads_by_name_from_anywhere(home, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert embedded.embedded_models() == ("micro-depth",)
    model = metaprompts.load("micro-depth", "cpu")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), metaprompts.load(home / "micro-depth", "cpu")(images))


@pytest.mark.slow
def test_half_precision_takes_half_the_space_and_loads_in_single(home):
    model = small_model("depth")
    model.save(home / "single")
    halved, whole = (home / name / "model.safetensors" for name in ("micro-depth", "single"))
    assert halved.stat().st_size < 0.55 * whole.stat().st_size
    loaded = metaprompts.load("micro-depth", "cpu")
    assert {each.dtype for each in loaded.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)


def test_a_folder_of_that_name_comes_first(home, tmp_path, monkeypatch):
    """Whoever calls a folder micro-depth means the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    small_model("pose").save("micro-depth")
    assert metaprompts.load("micro-depth", "cpu").task.name == "pose"


def test_unknown_names_list_the_known_ones(home):
    with pytest.raises(InputError, match=r"no model at micro-dept: .* a hub id, or one of micro-depth"):
        metaprompts.load("micro-dept", "cpu")


def test_the_miniature_is_a_backbone(home):
    backbone = load_backbone("micro")
    assert backbone.unet.config.block_out_channels == load_backbone("random:micro").unet.config.block_out_channels
    torch.testing.assert_close(
        backbone.vae.state_dict(), load_backbone(str(home / "micro")).vae.state_dict(), rtol=0, atol=0
    )


def test_forgetting_the_unet_keeps_the_vae(home):
    backbone = load_backbone("micro")
    torch.manual_seed(3)
    random = with_random_unet(backbone)
    assert random.vae is backbone.vae
    assert random.unet.config.block_out_channels == backbone.unet.config.block_out_channels
    before, after = backbone.unet.state_dict(), random.unet.state_dict()
    assert before.keys() == after.keys()
    assert not torch.equal(before["conv_in.weight"], after["conv_in.weight"])


def test_a_scaled_latent_is_the_latent_times_the_vaes_factor():
    from metaprompts.modules.backbone.vae_encoder import LatentEncoder

    vae = load_backbone("random:micro").vae
    vae.register_to_config(scaling_factor=0.25)
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(LatentEncoder(vae, scaled=True)(images), 0.25 * LatentEncoder(vae)(images))
