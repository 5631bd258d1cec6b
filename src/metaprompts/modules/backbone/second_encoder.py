"""A second encoder alongside the UNet: a frozen image backbone whose projected maps are added to the pyramid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.modules.backbone.encoder_cache import EncoderCache
from metaprompts.modules.backbone.loading import HASHED
from metaprompts.utils.fingerprint import named_tensors, tensors_fingerprint

VISION_TRANSFORMERS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
# The stem of every ConvNeXt divides the image into cells of this size.
_STEM = 4
# These models antialias when they resize their position embeddings to the image. OpenVINO does not, and the
# resizing cannot be traced into ONNX networks with variable input sizes.
_NOT_CONVERTIBLE = ("dinov2_with_registers",)


@dataclass(frozen=True, eq=False)
class ImageBackbone:
    """An image backbone, as transformers built it.

    Attributes:
        source: hub id, folder or "random:NAME"
        network: the backbone, which returns one feature map per level of the pyramid, finest first
        mean: mean of the red, green and blue pixels in [0, 1] that the network was trained with
        std: standard deviation of the same pixels, for each color
    """

    source: str
    network: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def fingerprint(self) -> str:
        """A fingerprint of the weights: every tensor's name, shape, and first and last values."""
        return tensors_fingerprint(named_tensors("second", self.network), ends=HASHED)

    @property
    def multiple(self) -> int:
        """The divisor of image sides, in pixels: the size of a patch, or of a cell of the coarsest map."""
        config = self.network.config
        if config.model_type in VISION_TRANSFORMERS:
            return int(config.patch_size)
        return _STEM * int(2 ** (len(config.depths) - 1))


class SecondEncoder(nn.Module):
    """Encodes images by a frozen image backbone, and projects its maps to the widths of the pyramid's levels.

    The projections are 1x1 convolutions that start at zero, so a new model predicts the same as one without a second
    encoder. The backbone is never trained, never part of the graph, and always in evaluation mode.

    Args:
        backbone: the backbone, whose weights are shared, not copied
        pyramid_channels: C_l of each level, finest first; the backbone returns one map per level

    Attributes:
        cache: cache of the backbone's maps by image; None to encode every image
    """

    def __init__(self, backbone: ImageBackbone, pyramid_channels: Sequence[int]) -> None:
        super().__init__()
        self.network = backbone.network
        self.source, self.mean, self.std = backbone.source, backbone.mean, backbone.std
        self.multiple = backbone.multiple
        self.projections = nn.ModuleList(
            _zero_projection(given, taken) for given, taken in zip(self.network.channels, pyramid_channels, strict=True)
        )
        self.cache: EncoderCache | None = None
        self.network.requires_grad_(False)
        self.train(self.training)

    @property
    def backbone(self) -> ImageBackbone:
        """The frozen backbone, for other models."""
        return ImageBackbone(self.source, self.network, self.mean, self.std)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the projections; the backbone stays in evaluation mode."""
        super().train(mode)
        self.network.train(False)
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode RGB images and project the maps.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size

        Returns:
            one map (B, C_l, h_l, w_l) for each level, finest first, in the sizes of the backbone's own maps
        """
        return [project(each) for project, each in zip(self.projections, self.maps(images), strict=True)]

    @torch.no_grad()
    def maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's own maps, which the cache stores.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size
        """
        return self._encoded(images) if self.cache is None else self.cache.outputs(images, self._encoded)

    def check_convertible(self, runtime: str) -> None:
        """Check that another runtime would compute the same maps of images of any size.

        Args:
            runtime: name of the runtime, for the error

        Raises:
            InputError: the runtime would compute different maps
        """
        if not self.is_convertible:
            raise InputError(
                f"{runtime} cannot run a second encoder of type {self.network.config.model_type}, which antialiases "
                "its position embeddings: use engine eager or compile, or export to torch or onnx"
            )

    @property
    def is_convertible(self) -> bool:
        """Whether other runtimes compute the same maps of images of any size."""
        return self.network.config.model_type not in _NOT_CONVERTIBLE

    def _encoded(self, images: Tensor) -> list[Tensor]:
        step = self.multiple
        size = [(side + step - 1) // step * step for side in images.shape[-2:]]
        # Even if the size already fits: this changes nothing, and lets networks with variable input sizes be traced.
        pixels = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        mean, std = (pixels.new_tensor(each).view(1, 3, 1, 1) for each in (self.mean, self.std))
        return list(self.network((pixels - mean) / std).feature_maps)


class RotaryPositions(nn.Module):
    """The rotary position embeddings of DINOv3, in place of those of transformers.

    transformers' embeddings keep the coordinates of earlier images, even of fake tensors, and frequencies that are not
    part of the weights, so models that are built on the meta device and filled from a file would lack them.

    Args:
        config: the config of the vision transformer
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.patch_size: int = config.patch_size
        self.frequencies: int = config.hidden_size // config.num_attention_heads // 4
        self.base: float = config.rope_theta

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the angles by which the queries and keys of each patch are rotated.

        Args:
            pixels: (B, 3, H, W)

        Returns:
            two tensors (patches, 4 * frequencies): half of the frequencies turn with the row, half with the column
        """
        numbers = torch.arange(self.frequencies, dtype=torch.float32, device=pixels.device)
        speeds = 2 * math.pi / self.base ** (numbers / self.frequencies)
        rows, columns = (_centers(side // self.patch_size, pixels.device) for side in pixels.shape[-2:])
        of_rows = (rows[:, None, None] * speeds).expand(-1, columns.shape[0], -1)
        of_columns = (columns[None, :, None] * speeds).expand(rows.shape[0], -1, -1)
        angles = torch.cat([of_rows, of_columns], dim=-1).flatten(0, 1).tile(2)
        return angles.cos().to(pixels.dtype), angles.sin().to(pixels.dtype)


def with_maps(pyramid: Sequence[Tensor], maps: Sequence[Tensor]) -> list[Tensor]:
    """Add projected maps to a pyramid.

    Args:
        pyramid: (B, C_l, h / 2^l, w / 2^l), finest first
        maps: output of `SecondEncoder`, resized here to each level's size; empty without a second encoder

    Returns:
        the sum; the pyramid itself without maps
    """
    if not maps:
        return list(pyramid)
    return [
        level + F.interpolate(each, size=level.shape[-2:], mode="bilinear", align_corners=False)
        for level, each in zip(pyramid, maps, strict=True)
    ]


def _zero_projection(channels: int, width: int) -> nn.Conv2d:
    # The rest of the model must draw the same initial weights as without a second encoder.
    with torch.random.fork_rng(devices=[]):
        layer = nn.Conv2d(channels, width, 1)
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _centers(count: int, device: torch.device) -> Tensor:
    """The centers of patches along one side of the image, whose ends are -1 and 1."""
    return 2 * (torch.arange(count, dtype=torch.float32, device=device) + 0.5) / count - 1
