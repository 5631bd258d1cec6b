"""A pre-training may begin with the networks of a finished one."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metaprompts.errors import InputError
from metaprompts.pretraining.pretrain import pretrain
from metaprompts.utils.callbacks import Callback
from pretraining.drawn import rectangle, small_settings

UNET = "unet/diffusion_pytorch_model.safetensors"


def begun_with(folder: Path, out: Path, **diffusion):
    """The run folder of a pre-training that began with ``folder``."""
    settings = small_settings(out, diffusion=diffusion, seed=1)
    pretrain(dataclasses.replace(settings, architecture=None, init_from=folder), Callback(), source=rectangle)
    return out


@pytest.mark.slow
def test_it_goes_on_with_the_networks_and_keeps_vae_and_words(run, tmp_path):
    # A step that changes nothing: what is written is what it began with.
    out = begun_with(run / "model", tmp_path / "run", steps=1, lr=0.0)
    for part in (UNET, "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        expected, found = load_file(run / "model" / part), load_file(out / "model" / part)
        assert expected.keys() == found.keys()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)
    for name in ("vocab.json", "merges.txt"):
        assert (out / "model/tokenizer" / name).read_bytes() == (run / "model/tokenizer" / name).read_bytes()


@pytest.mark.slow
def test_it_learns(run, tmp_path):
    out = begun_with(run / "model", tmp_path / "run")
    expected, found = load_file(run / "model" / UNET), load_file(out / "model" / UNET)
    assert any(not torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
def test_checkpoints_of_another_beginning_are_refused(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(begun_with(run / "model", tmp_path / "run") / "model", other)
    with pytest.raises(InputError, match="differs from this run in init_from"):
        begun_with(other, tmp_path / "run", steps=6)


def test_a_folder_that_lacks_a_part_is_named(tmp_path):
    with pytest.raises(InputError, match=r"init_from .*nothing lacks vae/diffusion_pytorch_model.safetensors, "):
        begun_with(tmp_path / "nothing", tmp_path / "run")


def test_an_architecture_next_to_it_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="architecture and init_from are mutually exclusive"):
        dataclasses.replace(small_settings(tmp_path / "run"), init_from=run / "model")
