"""Stable Diffusion as a perception model: segmentation, depth and pose with learnable meta prompts."""

__version__ = "0.1.0"
