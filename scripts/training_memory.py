"""How much memory a recipe's training takes, computed: nothing is allocated and nothing is run.

    python scripts/training_memory.py nyu kitti [--batch_size 2]

Weights, gradients and AdamW's two moments follow from the number of parameters, all in float32. What the forward pass
keeps for the backward pass is counted tensor by tensor on the meta device, at the recipe's own crop, for two pictures,
and scaled to the batch. Not counted: the encoder's own work, what a checkpointed layer needs while it is computed
again, and the allocator's gaps; so a real training takes more.
"""

import argparse
import sys
from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.backbone.sources import RANDOM, build_backbone, named_config
from metaprompts.model import MetaPromptModel
from metaprompts.recipe import Recipe, read_recipe

_GIB = 2**30
_FLOAT = 4
# Batch norm has no variance of one value where UPerNet pools to a single pixel.
_PICTURES = 2


def main() -> int:
    """Compute, print a line for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument("--batch_size", type=int)
    arguments = parser.parse_args()
    sys.stdout.write(
        "| recipe | batch | weights, gradients, moments | kept a picture | with checkpointing | together |\n"
    )
    sys.stdout.write("| --- | --- | --- | --- | --- | --- |\n")
    for name in arguments.recipes:
        recipe = read_recipe(name)
        model, batch = empty_model(recipe), arguments.batch_size or recipe.training.batch_size
        states = state_bytes(model)
        plain, checkpointed = (kept_bytes(model, recipe, checkpointing=on) for on in (False, True))
        shown = [f"{value / _GIB:.1f} GiB" for value in (states, plain, checkpointed, states + batch * checkpointed)]
        sys.stdout.write(f"| {name} | {batch} | {' | '.join(shown)} |\n")
    return 0


def empty_model(recipe: Recipe) -> MetaPromptModel:
    """The recipe's model on the meta device; hub sources are taken to be Stable Diffusion 1.5."""
    source = recipe.backbone.source
    with torch.device("meta"):
        backbone = build_backbone(**named_config(source.removeprefix(RANDOM) if source.startswith(RANDOM) else "sd15"))
        parts = {part: getattr(recipe, part) for part in ("task", "prompts", "refinement", "rearrangement")}
        model = MetaPromptModel.on_backbone(backbone, **parts)
    model.latent_encoder.precise = False
    return model.train()


def state_bytes(model: nn.Module) -> int:
    """Bytes of all weights, and of gradient and two moments of those that train."""
    parameters = list(model.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    return _FLOAT * (sum(each.numel() for each in parameters) + 3 * trained)


def kept_bytes(model: MetaPromptModel, recipe: Recipe, *, checkpointing: bool) -> float:
    """Bytes that the forward pass of one picture keeps for the backward pass, weights left out."""
    model.unet.gradient_checkpointing = checkpointing
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    # Storages are held, so that no address is used twice.
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.training_outputs(torch.empty(_PICTURES, 3, *_crop(recipe), device="meta"))
    return sum(storage.nbytes() for storage in kept.values()) / _PICTURES


def _crop(recipe: Recipe) -> tuple[int, int]:
    task = recipe.task
    size: tuple[int, int] = (task.crop_height, task.crop_width) if task.name == "pose" else recipe.augment.crop
    return size


if __name__ == "__main__":
    sys.exit(main())
