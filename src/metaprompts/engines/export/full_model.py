"""All K steps in one network, and its pre- and post-processing."""

from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.engines.optimized import OptimizedModel, StepConditions, run
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks import Depth, Pose, Segmentation


class WholeModel(nn.Module):
    """A prepared model whose prompts are constants: images in, raw output out.

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
        """Predict images (B, 3, H, W), RGB float in [0, 1]; the raw output of the task."""
        conditioning = StepConditions(self.shifts, self.keys_values.unbind(), self.prompts)
        return run(self.prepared, self.prepared.task, images, conditioning)


def description(model: MetaPromptModel, size: tuple[int, int]) -> dict[str, Any]:
    """Describe pre- and post-processing in plain values, for model.json.

    Args:
        model: the exported model
        size: (height, width) of its images
    """
    task = model.task
    assert isinstance(task, Segmentation | Depth | Pose)
    return {
        "task": task.name,
        "input": {
            "name": "images",
            "shape": ["batch", 3, *size],
            "type": "float32",
            "channels": "RGB",
            "range": [0.0, 1.0],
            "resize": _RESIZE_POSE if isinstance(task, Pose) else _RESIZE,
        },
        "output": _output(task, size),
    }


_RESIZE = (
    "Resize the image to the input's height and width: averaging over areas if that has fewer pixels, else "
    "bilinearly; round to 8 bits. Resize the output back to the image's size bilinearly, without smoothing "
    "(align_corners=False)."
)
_RESIZE_POSE = (
    "Cut out each person: lengthen the box's shorter side to the input's aspect, then enlarge both by the padding, "
    "about the box's center; map the box's edges to the centers of the input's outermost pixels, bilinearly; outside "
    "the image is black. Of an image without boxes the whole is one box, without padding."
)


def _output(task: Segmentation | Depth | Pose, size: tuple[int, int]) -> dict[str, Any]:
    if isinstance(task, Segmentation):
        return {
            "name": "logits",
            "shape": ["batch", len(task.classes), *size],
            "meaning": (
                "The class of a pixel is the index of its largest value on axis 1, resized after a softmax over that "
                "axis."
            ),
            "classes": list(task.classes),
        }
    if isinstance(task, Depth):
        return {
            "name": "depth_m",
            "shape": ["batch", 1, *(side // 8 * 8 for side in size)],
            "meaning": "Depth in meters.",
            "max_depth_m": task.max_depth_m,
        }
    return {
        "name": "heatmaps",
        "shape": ["batch", len(task.joints), *(side // 4 for side in size)],
        "meaning": (
            "A joint's score is the largest value of its heatmap. Its place is the center of a Gaussian of width sigma "
            "fitted to the logarithm of the values within ceil(1.5 sigma) of that pixel, by least squares weighted by "
            "their squares. Column c of w lies at c * (W - 1) / (w - 1) of an input W pixels wide, rows alike; column "
            "c of the input at left + c * width / (W - 1) of an enlarged box."
        ),
        "joints": list(task.joints),
        "skeleton": [list(edge) for edge in task.skeleton],
        "sigma": task.heatmap_sigma,
        "padding": task.padding,
    }
