"""The backbone: diffusers' UNet and VAE, with the forward pass that the method needs."""

from metaprompts.modules.backbone.loading import Backbone, build_backbone, load_backbone, with_random_unet
from metaprompts.modules.backbone.unet import PyramidUNet
from metaprompts.modules.backbone.vae_encoder import LatentEncoder

__all__ = ["Backbone", "LatentEncoder", "PyramidUNet", "build_backbone", "load_backbone", "with_random_unet"]
