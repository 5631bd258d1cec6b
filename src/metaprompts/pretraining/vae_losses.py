"""Reconstruction losses. All terms except the last depend only on the error, which is their argument."""

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601: blue and red difference of RGB.
_CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_POOLED = (2, 4, 8)


def chroma(images: Tensor) -> Tensor:
    """Blue and red difference (Cb, Cr) of RGB images, zero for gray.

    Args:
        images: (B, 3, H, W)

    Returns:
        (B, 2, H, W) from minus half to plus half the range of the images
    """
    return torch.einsum("oc,bchw->bohw", images.new_tensor(_CHROMA), images)


def color_loss(error: Tensor) -> Tensor:
    """Mean absolute error in red, green and blue, (B, 3, H, W) -> scalar."""
    return error.abs().mean()


def chroma_loss(error: Tensor) -> Tensor:
    """Mean absolute error in blue and red difference, (B, 3, H, W) -> scalar."""
    return chroma(error).abs().mean()


def edge_loss(error: Tensor) -> Tensor:
    """Mean absolute error in differences of neighboring pixels, horizontal plus vertical, (B, 3, H, W) -> scalar."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def pooled_loss(error: Tensor) -> Tensor:
    """Sum of the mean absolute errors of 2x2, 4x4 and 8x8 block averages, which teaches absolute color early.

    Args:
        error: (B, 3, H, W) with H and W multiples of 8

    Returns:
        scalar
    """
    return torch.stack([F.avg_pool2d(error, size).abs().mean() for size in _POOLED]).sum()


def kl_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of normal distributions from the standard normal, averaged over elements.

    Args:
        mean: any shape
        log_variance: the same shape

    Returns:
        scalar
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
