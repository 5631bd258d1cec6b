"""A small stack that rearrangement and the heads share."""

from torch import nn


def upsample_stack(channels: int, filters: int, *, doublings: int, kernel: int) -> nn.Sequential:
    """Transposed convolutions, each doubling height and width, each followed by batch norm and ReLU.

    Args:
        channels: of the input
        filters: of every layer's output
        doublings: number of layers
        kernel: 2 (no overlap) or 4

    Returns:
        a module (B, channels, h, w) -> (B, filters, h * 2^doublings, w * 2^doublings)
    """
    layers: list[nn.Module] = []
    for layer in range(doublings):
        width = channels if layer == 0 else filters
        layers += [
            nn.ConvTranspose2d(width, filters, kernel, stride=2, padding=(kernel - 2) // 2, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
