"""A recipe's model and batch with dummy values, to measure or estimate the cost of a run."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from metaprompts.embedded import BACKBONE
from metaprompts.models.config import Base
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import Backbone, build_backbone
from metaprompts.modules.backbone.loading import ARCHITECTURES, RANDOM, named_config
from metaprompts.modules.backbone.second_loading import stand_in_second
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.build_model import model_on
from metaprompts.utils.files import read_json

_STAND_IN = "sd15"


def stand_in_model(recipe: Recipe) -> MetaPromptModel:
    """A recipe's model with random weights, ready for training; nothing is downloaded, see `architecture`."""
    source = recipe.backbone.source
    base = None if recipe.training.trainable == "full" else Base(source=source, fingerprint="")
    # A cache is useless for images that occur only once.
    recipe = replace(recipe, backbone=replace(recipe.backbone, cache_latents=False, latent_cache=None))
    model = model_on(recipe, stand_in_backbone(source, recipe.backbone.second), base)
    model.train()
    if recipe.training.batch_norm != "local":
        # Frozen statistics need the same memory, and allow a single image.
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    return model


def fake_model(recipe: Recipe, mode: FakeTensorMode) -> MetaPromptModel:
    """`stand_in_model` with fake tensors, which take no memory but appear to be on the CPU."""
    # LoRA cannot be built from fake tensors, and the meta device does not support autocast.
    with torch.device("meta"):
        model = stand_in_model(recipe)
    facts = {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}
    with mode:
        fakes = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in facts.items()}
    model.load_state_dict(fakes, assign=True)
    return model


def empty_batch(recipe: Recipe, images: int) -> dict[str, Tensor]:
    """A training batch with dummy values."""
    height, width = recipe.task.input_size or recipe.augment.crop_size
    batch = {"image": torch.empty(images, 3, height, width)}
    return batch | recipe.task.empty_targets(images, height, width)


def stand_in_backbone(source: str, second: str | None = None) -> Backbone:
    """A randomly initialized backbone with the architecture of a source and, if given, of a second encoder's source."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        backbone = build_backbone(**{part: read_json(folder / part / "config.json") for part in ("unet", "vae")})
    else:
        backbone = build_backbone(**named_config(architecture(source)))
    if second is None:
        return backbone
    return replace(backbone, second=stand_in_second(second, len(backbone.unet.config.block_out_channels)))


def architecture(source: str) -> str:
    """The architecture of a source; Stable Diffusion 1.5 if neither its name nor a diffusers folder shows it."""
    if source.startswith(RANDOM):
        return source.removeprefix(RANDOM)
    if source == BACKBONE or Path(source).expanduser().is_dir():
        return source
    return ARCHITECTURES.get(source, _STAND_IN)
