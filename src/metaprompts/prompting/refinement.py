"""Recurrent refinement with modulated time (paper section 3.3)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from metaprompts.backbone.unet import PyramidUNet


class RecurrentRefinement(nn.Module):
    """Look K times: the UNet's output goes back in, and each step has its own learned time vector.

    Gradients flow through all K steps; the UNet's weights are the same in each.

    Args:
        steps: K, at least 1
        time_channels: T, the width of the UNet's time embedding
        modulated_time: a time vector for each step, or one shared by all (the paper's ablation)
    """

    def __init__(self, steps: int, time_channels: int, *, modulated_time: bool) -> None:
        super().__init__()
        self.steps = steps
        self.time = nn.ParameterList(torch.randn(1, time_channels) for _ in range(steps if modulated_time else 1))

    def forward(self, unet: PyramidUNet, latent: Tensor, prompts: Sequence[Tensor]) -> list[Tensor]:
        """The last step's pyramid.

        Args:
            unet: the UNet to look with
            latent: (B, 4, h, w)
            prompts: K tensors (B, N, D)

        Returns:
            (B, C_l, h / 2^l, w / 2^l), finest first
        """
        *_, pyramid = self.pyramids(unet, latent, prompts)
        return pyramid

    def pyramids(self, unet: PyramidUNet, latent: Tensor, prompts: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield the pyramid of every step, first to last; arguments as for `forward`."""
        for step in range(self.steps):
            pyramid = unet(latent, self.time[step % len(self.time)], prompts[step])
            yield pyramid
            if step + 1 < self.steps:
                latent = unet.to_latent(pyramid[0])
