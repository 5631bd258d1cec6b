"""Reconstruction losses, and metrics compared with two cheap baselines.

All loss terms except the last depend only on the error, which is their argument.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601: Cb and Cr of RGB.
_CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_POOLED = (2, 4, 8)
# The weights of red, green and blue in the brightness of a gray image (BT.601).
_LUMA = (0.299, 0.587, 0.114)
_BLOCK = 8


def chroma(images: Tensor) -> Tensor:
    """The chroma channels (Cb, Cr) of RGB images, zero for gray.

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
    """Mean absolute error of the chroma channels Cb and Cr, (B, 3, H, W) -> scalar."""
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


def psnr(images: Tensor, references: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, from the mean squared error over all elements; values are in [0, 1]."""
    error = (images.double() - references.double()).square().mean().item()
    return -10 * math.log10(error) if error > 0 else math.inf


def blocky(images: Tensor) -> Tensor:
    """Average 8x8 blocks and scale back bilinearly: the quality that 3 numbers per block give without training.

    Args:
        images: (B, 3, H, W), H and W multiples of 8

    Returns:
        (B, 3, H, W)
    """
    return F.interpolate(F.avg_pool2d(images, _BLOCK), scale_factor=_BLOCK, mode="bilinear", align_corners=False)


def gray(images: Tensor) -> Tensor:
    """The images without color, (B, 3, H, W) -> (B, 3, H, W)."""
    luma = torch.einsum("c,bchw->bhw", images.new_tensor(_LUMA), images)
    return luma[:, None].expand_as(images)


def chroma_spread(images: Tensor) -> tuple[float, float]:
    """The standard deviations of Cb and Cr over all pixels, for images (B, 3, H, W) in [0, 1]."""
    blue, red = chroma(images).double().transpose(0, 1).flatten(1).std(dim=1, correction=0).tolist()
    return blue, red


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Metrics on held-out images.

    Attributes:
        psnr: PSNR in dB of the reconstruction
        psnr_blocky: PSNR in dB of averaged 8x8 blocks scaled back
        psnr_gray: PSNR in dB of the true images without color
        chroma: standard deviations of Cb and Cr in the reconstruction
        chroma_true: standard deviations of Cb and Cr in the true images
    """

    psnr: float
    psnr_blocky: float
    psnr_gray: float
    chroma: tuple[float, float]
    chroma_true: tuple[float, float]

    @classmethod
    def measure(cls, truth: Tensor, found: Tensor) -> "Reconstruction":
        """Compare images (B, 3, H, W) in [0, 1] with their reconstructions."""
        return cls(
            psnr=psnr(found, truth),
            psnr_blocky=psnr(blocky(truth), truth),
            psnr_gray=psnr(gray(truth), truth),
            chroma=chroma_spread(found),
            chroma_true=chroma_spread(truth),
        )

    def shortcomings(self, *, margin_db: float, chroma_tolerance: float) -> list[str]:
        """The reasons why the reconstruction is not good enough, with numbers; empty if it is good enough.

        Args:
            margin_db: required improvement in dB over averaged blocks
            chroma_tolerance: allowed relative error of each standard deviation in ``chroma``
        """
        found = []
        if not self.psnr >= self.psnr_blocky + margin_db:
            found.append(f"PSNR {self.psnr:.2f} dB, expected {self.psnr_blocky:.2f} (averaged blocks) + {margin_db:g}")
        for name, spread, true in zip(("blue", "red"), self.chroma, self.chroma_true, strict=True):
            if not abs(spread - true) <= chroma_tolerance * true:
                found.append(f"spread of {name} difference {spread:.4f}, true {true:.4f} +- {chroma_tolerance:.0%}")
        return found
