"""Recurrent refinement with modulated time (paper section 3.3)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    # Diffusers takes seconds to import, and reading recipes does not need it.
    from metaprompts.modules.backbone.unet import PyramidUNet

_SMALLEST_STD = 1e-5


class RecurrentRefinement(nn.Module):
    """Run the UNet K times: its output is the input of the next step, and each step has its own learned time vector.

    Gradients flow through all K steps unless ``detach`` is set; the UNet's weights are the same in each step.

    Args:
        steps: K, at least 1
        time_channels: T, the width of the UNet's time embedding
        modulated_time: whether each step has its own time vector, or all share one (the paper's ablation)
        time_std: standard deviation of the time vectors' initial values
        match_latent: see `next_latent`
        detach: stop gradients between steps
    """

    def __init__(
        self,
        steps: int,
        time_channels: int,
        *,
        modulated_time: bool,
        time_std: float = 1.0,
        match_latent: bool = False,
        detach: bool = False,
    ) -> None:
        super().__init__()
        self.steps, self.match_latent, self.detach = steps, match_latent, detach
        count = steps if modulated_time else 1
        self.time = nn.ParameterList(time_std * torch.randn(1, time_channels) for _ in range(count))

    def forward(self, unet: "PyramidUNet", latent: Tensor, prompts: Sequence[Tensor]) -> list[Tensor]:
        """The last step's pyramid.

        Args:
            unet: the UNet used in all steps
            latent: (B, 4, h, w)
            prompts: K tensors (B, N, D)

        Returns:
            (B, C_l, h / 2^l, w / 2^l), finest first
        """
        *_, pyramid = self.pyramids(unet, latent, prompts)
        return pyramid

    def pyramids(self, unet: "PyramidUNet", latent: Tensor, prompts: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Yield the pyramid of every step, first to last; arguments as for `forward`."""
        for step in range(self.steps):
            pyramid = unet(latent, self.time[step % len(self.time)], prompts[step])
            yield pyramid
            if step + 1 < self.steps:
                latent = self.next_latent(unet, pyramid[0], latent)

    def next_latent(self, unet: "PyramidUNet", finest: Tensor, latent: Tensor) -> Tensor:
        """The input of the next step.

        Args:
            unet: the UNet, whose output layer turns the finest level into a latent
            finest: (B, C, h, w), the pyramid's finest level
            latent: (B, 4, h, w), this step's input; with ``match_latent``, the output is brought to the mean and
                standard deviation of this latent, channel by channel
        """
        output = unet.to_latent(finest)
        if self.match_latent:
            output = _standardized(output) * latent.std(dim=(-2, -1), keepdim=True)
            output = output + latent.mean(dim=(-2, -1), keepdim=True)
        return output.detach() if self.detach else output


def _standardized(maps: Tensor) -> Tensor:
    centered = maps - maps.mean(dim=(-2, -1), keepdim=True)
    return centered / (maps.std(dim=(-2, -1), keepdim=True) + _SMALLEST_STD)
