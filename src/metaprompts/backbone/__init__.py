"""What is borrowed: the UNet and the VAE encoder of a Stable Diffusion model."""

from metaprompts.backbone.latent import LatentEncoder
from metaprompts.backbone.sources import Backbone, build_backbone, load_backbone
from metaprompts.backbone.unet import PyramidUNet

__all__ = ["Backbone", "LatentEncoder", "PyramidUNet", "build_backbone", "load_backbone"]
