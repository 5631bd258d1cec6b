"""Build the model that a recipe starts from."""

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from metaprompts.models.config import Base
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import Backbone, load_backbone, with_random_unet
from metaprompts.modules.backbone.encoder_cache import DiskEncoderCache, EncoderCache
from metaprompts.modules.backbone.loading import backbone_fingerprint
from metaprompts.modules.backbone.second_loading import with_second
from metaprompts.modules.backbone.vae_encoder import vae_tensors
from metaprompts.recipes.recipe import BackboneChoice, Recipe
from metaprompts.training.warm_start import init_from
from metaprompts.utils.fingerprint import named_tensors, tensors_fingerprint
from metaprompts.utils.torch_modules import channels_last


def build_model(recipe: Recipe, *, is_resumed: bool = False) -> MetaPromptModel:
    """The model that a recipe starts from.

    Args:
        recipe: the model's recipe
        is_resumed: a checkpoint will replace all weights, so those of ``training.init_from`` are not read
    """
    source = recipe.backbone.source
    backbone = with_second(load_backbone(source), recipe.backbone.second)
    is_full = recipe.training.trainable == "full"
    base = None if is_full else Base(source=source, fingerprint=backbone_fingerprint(backbone))
    model = model_on(recipe, backbone, base)
    if recipe.training.init_from is not None and not is_resumed:
        init_from(model, recipe.training.init_from)
    return model


def model_on(recipe: Recipe, backbone: Backbone, base: Base | None) -> MetaPromptModel:
    """A recipe's model on a backbone, ready to be trained.

    Args:
        recipe: the model's recipe
        backbone: the backbone, which replaces the recipe's source and second encoder
        base: name of the backbone, if it stays frozen
    """
    choice = recipe.backbone
    model = MetaPromptModel.from_backbone(
        with_random_unet(backbone) if choice.forget_unet else backbone,
        task=recipe.task,
        prompts=replace(recipe.prompts, text_source=recipe.prompts.text_source or choice.source),
        refinement=recipe.refinement,
        rearrangement=recipe.rearrangement,
        scaled_latent=choice.scaled_latent,
        working_size=recipe.data.size_of_prediction(),
        base=base,
        lora=recipe.training.lora,
        supervised_steps=recipe.training.step_decay is not None,
    )
    # In training, a fast encoder matters more than a precise one.
    model.latent_encoder.precise = False
    if choice.latent_cache is not None or choice.cache_latents:
        encoder, second = model.latent_encoder, model.second_encoder
        encoder.cache = _cache(choice, "latents", vae_tensors(encoder))
        if second is not None:
            second.cache = _cache(choice, "the second encoder's maps", named_tensors("second", second.network))
    model.unet.gradient_checkpointing = choice.gradient_checkpointing
    if choice.channels_last:
        channels_last(model)
    return model


def _cache(choice: BackboneChoice, what: str, tensors: Iterable[tuple[str, Tensor]]) -> EncoderCache:
    full = f"the cache of {what} takes no new entries: other images are encoded every time"
    if choice.latent_cache is None:
        return EncoderCache(full=full)
    return DiskEncoderCache(choice.latent_cache / tensors_fingerprint(tensors), full=full)
