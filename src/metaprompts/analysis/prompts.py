"""Inspect a model: prompt responses in an image or a data set, and predictions after each step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metaprompts.analysis.prompt_maps import PromptHeatmap, PromptMaps
from metaprompts.data.io.images import as_image
from metaprompts.errors import InputError
from metaprompts.inference.predict import context_of
from metaprompts.metrics.prompt_report import DepthPreferences, Preferences
from metaprompts.tasks.preprocess import ModelInput
from metaprompts.utils.torch_modules import eval_mode

if TYPE_CHECKING:
    from metaprompts.metrics.prompt_statistics import PromptResponses
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.tasks.predictions import Prediction

Level = int | Literal["mean"]
"""Which map to use if the model has one per level (segmentation): 0 is the finest, "mean" averages all levels."""

FINEST: Level = 0
TOP = 8
_MOST_HELD = 10**9


def prompt_heatmaps(
    model: "MetaPromptModel",
    image: Any,
    prompts: Sequence[int] | None = None,
    top: int = TOP,
    *,
    level: Level = FINEST,
    boxes: Sequence[Sequence[float]] | None = None,
    caption: str | Tensor | None = None,
) -> tuple[PromptHeatmap, ...]:
    """Response maps of prompts in an image (paper section 5): enlarged bilinearly, each normalized to 0..1.

    The default is the finest level, which aligns best with the image and, unlike the mean of the levels, is read by the
    head.

    Args:
        model: any model with rearrangement
        image: path, PIL image, or uint8 array (H, W, 3)
        prompts: numbers of the prompts, from 0; None for the ``top`` most distinct ones, see
            `visualize.heatmaps.most_distinct`
        top: number of prompts if ``prompts`` is None; if larger than the number of prompts, all are shown
        level: see `Level`
        boxes: pose only, as for `MetaPromptModel.predict`
        caption: if the prompts are captions, as for `MetaPromptModel.predict`; a prompt is then a token of the caption

    Returns:
        one heatmap per prompt, in the requested order; none if ``boxes`` is empty

    Raises:
        InputError: the image cannot be read, the prompt or level does not exist, or the model has no prompt maps
    """
    chosen = chosen_prompts(model, prompts, top)
    maps = image_prompt_maps(model, image, level=level, boxes=boxes, caption=caption)
    return tuple(maps.heatmap(prompt) for prompt in maps.chosen(chosen, top))


def image_prompt_maps(
    model: "MetaPromptModel",
    image: Any,
    *,
    level: Level = FINEST,
    boxes: Sequence[Sequence[float]] | None = None,
    caption: str | Tensor | None = None,
) -> PromptMaps:
    """The maps behind `prompt_heatmaps`, to create heatmaps one at a time; same arguments."""
    pixels = as_image(image)
    _check_has_maps(model, level)
    context = context_of(model, caption)
    views, maps = list[ModelInput](), list[Tensor]()
    with eval_mode(model), torch.inference_mode():
        for view in model.task.model_inputs(pixels, model.config.working_size, boxes):
            maps.append(one_level(model.prompt_maps(view.image[None].to(model.device), context), level)[0])
            views.append(replace(view, image=_blank(view.image)))
            _check_held(maps[0].nbytes * (1 if boxes is None else len(boxes)))
    height, width = pixels.shape[:2]
    return PromptMaps(size=(height, width), views=tuple(views), maps=tuple(maps))


def _blank(image: Tensor) -> Tensor:
    """An image of the same shape that takes no memory; only the shape is needed to map back to the image."""
    return image.new_zeros(()).expand(image.shape)


def _check_held(held: int) -> None:
    if held > _MOST_HELD:
        raise InputError(
            f"the maps of all boxes take {held / 1e9:.1f} GB, but the limit is {_MOST_HELD / 1e9:.1f}: give fewer "
            "boxes per image"
        )


def chosen_prompts(model: "MetaPromptModel", prompts: Sequence[int] | None, top: int) -> list[int]:
    """Check a choice of prompts.

    Returns:
        ``prompts`` without duplicates; empty if the ``top`` prompts are still to be chosen

    Raises:
        InputError: no prompts are requested, or a prompt that the model does not have
    """
    count = model.config.prompts.count
    if prompts is None:
        if top < 1:
            raise InputError(f"the {top} most distinct prompts were requested; expected at least 1")
        return []
    if not prompts:
        raise InputError(f"the list of prompts is empty: give numbers from 0 to {count - 1}")
    for prompt in prompts:
        if not 0 <= prompt < count:
            raise InputError(f"there is no prompt {prompt}: this model has prompts 0 to {count - 1}")
    return list(dict.fromkeys(prompts))


def prompt_responses(
    model: "MetaPromptModel",
    batches: Iterable[Mapping[str, Tensor]],
    *,
    level: Level = FINEST,
) -> Preferences | DepthPreferences:
    """The responses of each prompt over a data set: to classes, distance, or joints.

    Args:
        model: any model with rearrangement
        batches: batches of a DataLoader over `Transformed`, as in validation
        level: see `Level`

    Raises:
        InputError: nothing is labeled, the level does not exist, or the model has no prompt maps
    """
    responses = begin_responses(model, level)
    for batch in batches:
        responses.add(batch_responses(model, batch, level))
    return responses.compute()


def begin_responses(model: "MetaPromptModel", level: Level) -> "PromptResponses":
    """Empty prompt responses, to which batches can be added.

    Raises:
        InputError: the level does not exist, or the model has no prompt maps
    """
    _check_has_maps(model, level)
    return model.task.prompt_responses(model.config.prompts.count)


def batch_responses(model: "MetaPromptModel", batch: Mapping[str, Tensor], level: Level) -> dict[str, Any]:
    """The state of the responses in one batch, which `PromptResponses.add` adds.

    Args:
        model: any model with rearrangement
        batch: a batch, as for `prompt_responses`
        level: see `Level`
    """
    with eval_mode(model), torch.inference_mode():
        context = batch["context"].to(model.device) if "context" in batch else None
        maps = one_level(model.prompt_maps(batch["image"].to(model.device), context), level)
    responses = begin_responses(model, level)
    responses.update(maps, batch)
    return responses.state()


def predictions_by_step(
    model: "MetaPromptModel",
    image: Any,
    boxes: Sequence[Sequence[float]] | None = None,
    caption: str | Tensor | None = None,
) -> "list[Prediction]":
    """The predictions after each of the K refinement steps.

    Step k uses the times and prompts of steps 1 to k. The pyramid is rearranged with the prompts of step k (not of the
    last step) and read by the shared head. The last prediction equals that of `MetaPromptModel.predict`. Earlier
    predictions are for inspection, not for scoring, because rearrangement and head were trained only on the
    last step.

    Args:
        model: any model
        image: path, PIL image, or uint8 array (H, W, 3)
        boxes: pose only, as for `MetaPromptModel.predict`
        caption: if the prompts are captions, as for `MetaPromptModel.predict`

    Returns:
        K predictions, first step first

    Raises:
        InputError: the image cannot be read
    """
    pixels = as_image(image)
    context = context_of(model, caption)
    seen = list[tuple[ModelInput, list[Tensor]]]()
    with eval_mode(model), torch.inference_mode():
        for view in model.task.model_inputs(pixels, model.config.working_size, boxes):
            images = view.image[None].to(model.device)
            size = (images.shape[2], images.shape[3])
            raws = [model.head(maps, size)[0] for maps in model.prompt_maps_by_step(images, context)]
            seen.append((replace(view, image=_blank(view.image)), raws))
            _check_held(sum(raw.nbytes for raw in raws) * (1 if boxes is None else len(boxes)))
    steps = range(model.config.refinement.steps)
    return [model.task.assemble(pixels, [(view, raws[step]) for view, raws in seen]) for step in steps]


def one_level(maps: Sequence[Tensor], level: Level) -> Tensor:
    """The maps of one level, or the mean of all levels, each enlarged to the size of the finest.

    Args:
        maps: (B,N,h,w) for each level, finest first
        level: see `Level`

    Returns:
        (B,N,h,w) float32 on the CPU

    Raises:
        InputError: the maps are not finite
    """
    if level == "mean":
        size = maps[0].shape[-2:]
        enlarged = [F.interpolate(each.float(), size=size, mode="bilinear", align_corners=False) for each in maps]
        chosen = torch.stack(enlarged).mean(dim=0)
    else:
        chosen = maps[level].float()
    if not chosen.isfinite().all():
        raise InputError("the prompt maps hold NaN or infinity: the model's weights are damaged")
    return chosen.cpu()


def _check_has_maps(model: "MetaPromptModel", level: Level) -> None:
    if not model.config.rearrangement.enabled:
        raise InputError("this model was trained with rearrangement.enabled false: it has no map for each prompt")
    levels = 1 if model.task.fused else len(model.unet.channels)
    if level != "mean" and not 0 <= level < levels:
        known = "only level 0" if levels == 1 else f"the levels 0 (finest) to {levels - 1}"
        raise InputError(f"there is no level {level}: this model has {known}")
