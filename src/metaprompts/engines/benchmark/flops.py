"""The number of operations of a prediction."""

from dataclasses import dataclass

import torch

from metaprompts.engines.benchmark.instrumented import MeteredParts, PlainParts, flops_of
from metaprompts.engines.benchmark.workload import Workload, config_for
from metaprompts.engines.optimized import run
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.meta_prompts import CaptionPrompts


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations of one prediction by the plain engine.

    Attributes:
        encode: number of operations in the VAE
        steps: number of operations in each step
        decode: number of operations in rearrangement and head
        seen: (height, width) of the images that the backbone sees
    """

    encode: float
    steps: list[float]
    decode: float
    seen: tuple[int, int]

    @property
    def total(self) -> float:
        """All parts together."""
        return self.encode + sum(self.steps) + self.decode


@torch.no_grad()
def count_flops(config: ModelConfig, workload: Workload) -> Flops:
    """Count the operations of a prediction, using meta tensors.

    Args:
        config: config of the model
        workload: the workload to run
    """
    config = config_for(config, workload)
    # Frozen, because the counter would track gradients, which prompts created under no_grad do not have.
    model = MetaPromptModel.from_config(config).eval().requires_grad_(False)
    plain = PlainParts(model, workload.steps)
    parts = MeteredParts(plain, flops_of, workload.steps)
    (view,) = config.task.model_inputs(workload.images()[0], workload.full_working_size(), None)
    height, width = view.image.shape[-2], view.image.shape[-1] // workload.windows
    images = torch.empty(workload.batch, 3, height, width, device="meta")
    context = torch.empty(workload.batch, config.prompts.count, model.unet.prompt_channels, device="meta")
    reads = isinstance(model.prompts, CaptionPrompts)
    run(parts, config.task, images, plain.conditions(workload.batch, context if reads else None))
    seen = config.task.resize_for_backbone(images).shape
    return Flops(
        encode=parts.amounts["encode"] * workload.windows,
        steps=[amount * workload.windows for amount in parts.of_steps()],
        decode=parts.amounts["decode"] * workload.windows,
        seen=(seen[-2], seen[-1]),
    )
