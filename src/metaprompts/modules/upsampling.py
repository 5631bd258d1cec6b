"""Upsampling of maps in heads and rearrangement."""

from typing import Literal

Upsampling = Literal["resize", "transposed"]
"""Upsampling by two: bilinear resize and a 3x3 convolution, or a transposed convolution."""
