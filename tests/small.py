"""Models of a few thousand parameters, for tests of what is around a model."""

import torch

from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.loop import build_model

SMALL = {
    "segmentation": ["--task.classes", "ground,sky", "--task.width", "16"],
    "depth": ["--task.filters", "4", "--task.width", "8"],
    "pose": ["--task.crop_height", "64", "--task.crop_width", "64", "--task.filters", "8"],
}


def small_model(task: str) -> MetaPromptModel:
    torch.manual_seed(0)
    sized = [] if task == "pose" else ["--data.image_size", "64,64"]
    words = [*SMALL[task], *sized, "--prompts.count", "4", "--backbone.source", "random:micro"]
    return build_model(read_recipe(f"micro_{task}", words)).eval()


def smooth_images(count: int, height: int, width: int) -> torch.Tensor:
    """Images (B, 3, H, W) in [0, 1] that are not noise."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
