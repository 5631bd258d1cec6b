"""A network of all K steps, and the description of its pre- and post-processing."""

from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.engines.optimized import OptimizedModel, StepConditions, pyramids, run
from metaprompts.models.model import MetaPromptModel


class WholeModel(nn.Module):
    """A prepared model with constant prompts, which maps images to raw output.

    Args:
        prepared: a model that reads no captions
        every_step: also return the raw output of each earlier step
    """

    shifts: Tensor
    keys_values: Tensor
    decode_prompts: Tensor

    def __init__(self, prepared: OptimizedModel, *, every_step: bool = False) -> None:
        super().__init__()
        self.prepared, self.every_step = prepared, every_step
        conditioning = prepared.conditions(1, None)
        self.register_buffer("shifts", conditioning.shifts)
        self.register_buffer("keys_values", torch.stack(list(conditioning.keys_values)))
        self.register_buffer("decode_prompts", torch.stack(list(conditioning.decode_prompts)).detach())

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs: "output", and with ``every_step`` also "step_1" up to the second-to-last step."""
        earlier = range(1, len(self.shifts)) if self.every_step else ()
        return ["output", *(f"step_{number}" for number in earlier)]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images (B, 3, H, W), RGB float in [0, 1], to the raw output of the task, or those of `output_names`."""
        conditioning = StepConditions(self.shifts, self.keys_values.unbind(), self.decode_prompts.unbind())
        if not self.every_step:
            return run(self.prepared, self.prepared.task, images, conditioning)
        steps = pyramids(self.prepared, self.prepared.task, images, conditioning)
        raws = [
            self.prepared.decode(pyramid, prompts, images)
            for pyramid, prompts in zip(steps, conditioning.decode_prompts, strict=True)
        ]
        return raws[-1], *raws[:-1]


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
