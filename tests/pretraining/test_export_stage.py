import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from metaprompts.modules.backbone.loading import load_backbone
from metaprompts.pretraining.sampling import generate_images

CAPTIONS = ["a red box on blue", "a blue box on red", "a green box on green"]


@pytest.fixture(scope="module")
def pipeline(run):
    return StableDiffusionPipeline.from_pretrained(run / "model")


@pytest.mark.slow
def test_the_folder_draws_images_of_the_scenes_size(pipeline):
    images = generate_images(pipeline, CAPTIONS, seed=1, steps=2, guidance=4.0)
    assert images.shape == (3, 64, 128, 3)
    assert images.dtype == np.uint8
    # An image does not depend on its neighbors in a batch.
    alone = generate_images(pipeline, CAPTIONS[1:], seed=2, steps=2, guidance=4.0)
    assert np.abs(alone.astype(int) - images[1:]).max() <= 1


@pytest.mark.slow
def test_the_folder_is_whole_and_in_half_precision(run, pipeline):
    index = json.loads((run / "model/model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["safety_checker"] == [None, None]
    assert index["requires_safety_checker"] is False
    for part in ("unet", "vae", "text_encoder"):
        (weights,) = (run / "model" / part).glob("*.safetensors")
        assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
        assert getattr(pipeline, part).dtype == torch.float32
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (run / "model/tokenizer" / name).is_file()
    assert pipeline.vae.config.scaling_factor == 1
    assert pipeline.text_encoder.config.eos_token_id == pipeline.tokenizer.eos_token_id
    assert pipeline.text_encoder.config.max_position_embeddings == pipeline.tokenizer.model_max_length
    assert pipeline.scheduler.config.steps_offset == 1
    assert (run / "samples.png").is_file()


def test_it_holds_the_averaged_weights(run, pipeline):
    state = torch.load(run / "diffusion/00000004.pt", weights_only=True)
    name = "unet.conv_in.weight"
    torch.testing.assert_close(pipeline.unet.conv_in.weight.detach(), state["average"][name], atol=1e-3, rtol=1e-3)
    assert not torch.equal(state["average"][name], state["model"][name])


def test_it_is_a_backbone(run):
    backbone = load_backbone(str(run / "model"))
    assert backbone.unet.config.in_channels == backbone.vae.config.latent_channels == 4


def test_it_loads_in_half_precision_too(run):
    pipeline = StableDiffusionPipeline.from_pretrained(run / "model", torch_dtype=torch.float16)
    assert generate_images(pipeline, CAPTIONS[:1], seed=0, steps=1, guidance=1.0).shape == (1, 64, 128, 3)
