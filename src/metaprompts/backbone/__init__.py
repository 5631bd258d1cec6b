"""What is borrowed: diffusers' UNet and VAE, with the forward pass that the method needs."""

from metaprompts.backbone.latent import LatentEncoder
from metaprompts.backbone.sources import Backbone, build_backbone, load_backbone, with_random_unet
from metaprompts.backbone.unet import PyramidUNet

__all__ = ["Backbone", "LatentEncoder", "PyramidUNet", "build_backbone", "load_backbone", "with_random_unet"]
