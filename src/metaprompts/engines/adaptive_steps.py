"""Predict with as many refinement steps as each image needs."""

import logging

import torch
from torch import Tensor

from metaprompts.engines.optimized import Parts, StepConditions
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.modules.backbone.second_encoder import with_maps
from metaprompts.tasks import Task
from metaprompts.tasks.protocol import AdaptiveOutput

_logger = logging.getLogger(__name__)


def run_until_agreement(
    parts: Parts, task: Task, images: Tensor, conditioning: StepConditions, tolerance: float
) -> AdaptiveOutput:
    """Run steps until an image's last two outputs agree; the other images of the batch continue.

    The result of an image that stops early is the mean of these two outputs, which scores higher than either of them.

    Args:
        parts: executes the three parts
        task: the task
        images: (B, 3, H, W) RGB float in [0, 1]
        conditioning: conditioning of each step; at least two steps
        tolerance: mean disagreement of two successive steps at which an image is finished
    """
    latent, *maps = parts.encode(task.resize_for_backbone(images))
    remaining = torch.arange(len(images), device=images.device)
    steps = torch.zeros(len(images), dtype=torch.long)
    raws: list[Tensor] = [torch.empty(0)] * len(images)
    agreements: list[Tensor] = [torch.empty(0)] * len(images)
    previous: Tensor | None = None
    last = len(conditioning.keys_values)
    rows = zip(conditioning.shifts, conditioning.keys_values, conditioning.decode_prompts, strict=True)
    for number, (shifts, keys_values, prompts) in enumerate(rows, 1):
        # Captions differ between images; other prompts are shared.
        own_keys = keys_values if len(keys_values) == 1 else keys_values[remaining]
        own_prompts = prompts if len(prompts) == 1 else prompts[remaining]
        *pyramid, latent = parts.unet_step(latent, shifts, own_keys)
        raw = parts.decode(with_maps(pyramid, maps), own_prompts, images[remaining])
        if previous is not None:
            per_pixel, per_image = task.disagreement(previous.float(), raw.float())
            is_done = (per_image <= tolerance) | (number == last)
            for row in is_done.nonzero()[:, 0].tolist():
                image = int(remaining[row])
                result = raw[row] if number == last else (previous[row] + raw[row]) / 2
                raws[image], agreements[image], steps[image] = result, 1 - per_pixel[row], number
            remaining, latent, raw = remaining[~is_done], latent[~is_done], raw[~is_done]
            maps = [each[~is_done] for each in maps]
            if not len(remaining):
                break
        previous = raw
    return AdaptiveOutput(torch.stack(raws), torch.stack(agreements), steps)


def warn_of_untrained_steps(config: ModelConfig, steps: object) -> None:
    """Warn if a prediction ends at a step that was not trained.

    Args:
        config: the model's config
        steps: number of steps, "auto", or None for all
    """
    trained = config.refinement.steps
    if isinstance(steps, int) and steps < trained and not config.supervised_steps:
        _logger.warning(
            "only the last of this model's %d refinement steps was trained: predictions of step %d are much less "
            "accurate; train with training.step_decay to be able to choose the number of steps",
            trained,
            steps,
        )


def tolerance_of(config: ModelConfig) -> float:
    """The calibrated tolerance of a model.

    Raises:
        InputError: the model has one step, was trained on its last step only, or is not calibrated
    """
    if config.refinement.steps == 1:
        raise InputError("steps auto needs several refinement steps, but the model has one: omit steps")
    if not config.supervised_steps:
        raise InputError(
            "steps auto needs a model whose steps were all trained (training.step_decay), but only the last step of "
            f"this one was: omit steps, or give a number from 1 to {config.refinement.steps}"
        )
    if config.step_tolerance is None:
        raise InputError(
            "steps auto needs a calibrated tolerance: run metaprompts calibrate MODEL --steps --data.root DIR first"
        )
    return config.step_tolerance
