"""Models of a few thousand parameters, for tests of what is around a model."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone.loading import build_backbone
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model

SMALL = {
    "segmentation": ["--task.classes", "ground,sky", "--task.width", "16"],
    "depth": ["--task.filters", "4", "--task.width", "8"],
    "pose": ["--task.crop_height", "64", "--task.crop_width", "64", "--task.filters", "8"],
}


def small_model(task: str, backbone: str = "random:micro") -> MetaPromptModel:
    torch.manual_seed(0)
    sized = [] if task == "pose" else ["--data.image_size", "64,64"]
    words = [*SMALL[task], *sized, "--prompts.count", "4", "--refinement.steps", "3", "--backbone.source", backbone]
    return build_model(read_recipe(f"micro_{task}", words)).eval()


@cache
def tiny_backbone() -> str:
    """A diffusers folder whose UNet has three levels: built, trained and saved in half of the miniature's time."""
    folder = Path(tempfile.mkdtemp(prefix="tiny_backbone"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unet = {
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [16, 16, 32],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 8,
        # That of the miniature's text encoder.
        "cross_attention_dim": 64,
    }
    vae = {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [8] * 4,
        "norm_num_groups": 4,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone(unet, vae)
    backbone.unet.save_pretrained(folder / "unet")
    backbone.vae.save_pretrained(folder / "vae")
    return str(folder)


def smooth_images(count: int, height: int, width: int) -> torch.Tensor:
    """Images (B, 3, H, W) in [0, 1] that are not noise."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
