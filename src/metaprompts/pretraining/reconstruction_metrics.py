"""Reconstruction metrics, compared with two cheap baselines."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metaprompts.pretraining.vae_losses import chroma

# The weights of red, green and blue in the brightness of a gray image (BT.601).
_LUMA = (0.299, 0.587, 0.114)
_BLOCK = 8


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
    """The standard deviations of blue and red difference over all pixels, for images (B, 3, H, W) in [0, 1]."""
    blue, red = chroma(images).double().transpose(0, 1).flatten(1).std(dim=1, correction=0).tolist()
    return blue, red


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Metrics on held-out images.

    Attributes:
        psnr: PSNR in dB of the reconstruction
        psnr_blocky: PSNR in dB of averaged 8x8 blocks scaled back
        psnr_gray: PSNR in dB of the true images without color
        chroma: standard deviations of blue and red difference in the reconstruction
        chroma_true: standard deviations of blue and red difference in the true images
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
