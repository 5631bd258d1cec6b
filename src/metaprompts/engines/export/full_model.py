"""A network of all K steps, and the description of its pre- and post-processing."""

from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.engines.optimized import OptimizedModel, StepConditions, run
from metaprompts.models.model import MetaPromptModel


class WholeModel(nn.Module):
    """A prepared model with constant prompts, which maps images to raw output.

    Args:
        prepared: a model that reads no captions
    """

    shifts: Tensor
    keys_values: Tensor
    prompts: Tensor

    def __init__(self, prepared: OptimizedModel) -> None:
        super().__init__()
        self.prepared = prepared
        conditioning = prepared.conditions(1, None)
        self.register_buffer("shifts", conditioning.shifts)
        self.register_buffer("keys_values", torch.stack(list(conditioning.keys_values)))
        self.register_buffer("prompts", conditioning.prompts.detach())

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), RGB float in [0, 1], to the raw output of the task."""
        conditioning = StepConditions(self.shifts, self.keys_values.unbind(), [self.prompts])
        return run(self.prepared, self.prepared.task, images, conditioning)


def description(model: MetaPromptModel, size: tuple[int, int]) -> dict[str, Any]:
    """Describe pre- and post-processing in plain values, for model.json.

    Args:
        model: the exported model
        size: (height, width) of the network's images
    """
    task = model.task
    return {
        "task": task.name,
        "input": {
            "name": "images",
            "shape": ["batch", 3, *size],
            "type": "float32",
            "channels": "RGB",
            "range": [0.0, 1.0],
            "resize": task.export_input(),
        },
        "output": task.export_output(size),
    }
