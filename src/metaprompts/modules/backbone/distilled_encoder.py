"""A small convolutional encoder distilled from that of a VAE (like TAESD)."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.modules.backbone.vae_encoder import LatentEncoder, vae_tensors
from metaprompts.utils.files import read_json, write_json
from metaprompts.utils.fingerprint import tensors_fingerprint
from metaprompts.utils.schema import Range, check_ranges, from_dict, to_dict
from metaprompts.utils.tensor_files import load_tensors, read_tensors, write_tensors

CONFIG_FILE = "encoder.json"
WEIGHTS_FILE = "encoder.safetensors"

_SMALLEST_WIDTH, _MOST_HALVINGS = 8, 8


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """The architecture of a small encoder.

    Attributes:
        widths: channels after each halving of the image, finest first
        blocks: residual blocks after each halving
        latent_channels: latent channels of the VAE
        latent_scale: the VAE's scaling factor, which brings its latents to about unit standard deviation
    """

    widths: tuple[Annotated[int, Range(1, 65536)], ...]
    blocks: Annotated[int, Range(0, 64)]
    latent_channels: Annotated[int, Range(1, 65536)]
    latent_scale: Annotated[float, Range(0, 1e6, above=True)]

    def __post_init__(self) -> None:
        check_ranges(self, "")
        if not 1 <= len(self.widths) <= _MOST_HALVINGS:
            raise InputError(f"widths has {len(self.widths)} entries; expected 1 to {_MOST_HALVINGS}")

    @classmethod
    def of_width(cls, width: int, *, blocks: int, halvings: int, latent_channels: int, latent_scale: float) -> Self:
        """The shape with half as many channels at each finer level, but at least 8.

        Args:
            width: channels at the latent's size
            blocks: residual blocks after each halving
            halvings: number of times the VAE halves an image
            latent_channels: latent channels of the VAE
            latent_scale: the VAE's scaling factor
        """
        widths = tuple(max(width >> halving, min(width, _SMALLEST_WIDTH)) for halving in reversed(range(halvings)))
        return cls(widths=widths, blocks=blocks, latent_channels=latent_channels, latent_scale=latent_scale)


class SmallEncoder(nn.Module):
    """Encodes images as latents; approximates an unscaled `LatentEncoder` with a few convolutions.

    There are no norms and no attention, so each latent depends only on its neighborhood, and images may have any size.

    Args:
        shape: architecture of the encoder
        vae: `vae_fingerprint` of the VAE that it approximates
    """

    def __init__(self, shape: EncoderShape, vae: str) -> None:
        super().__init__()
        self.shape, self.vae = shape, vae
        self.stride = 2 ** len(shape.widths)
        self.gain = 1 / shape.latent_scale
        layers: list[nn.Module] = []
        channels = 3
        for width in shape.widths:
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1))
            layers += [ResidualBlock(width) for _ in range(shape.blocks)]
            channels = width
        self.layers = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(channels, shape.latent_channels, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] as latents (B, 4, H // 8, W // 8); 4 and 8 depend on the VAE."""
        return self.layers(images * 2 - 1) * self.gain  # type: ignore[no-any-return]

    def in_place_of(self, encoder: LatentEncoder) -> "SmallEncoder":
        """A copy for prediction with the latent scale, precision and device of an encoder.

        Args:
            encoder: the encoder to replace

        Raises:
            InputError: the encoder was distilled from a different VAE
        """
        found = vae_fingerprint(encoder)
        if found != self.vae:
            raise InputError(
                f"the small encoder was distilled from VAE {self.vae}, but this model has {found}: make a new one with "
                "metaprompts distill-encoder MODEL"
            )
        replacement = copy.deepcopy(self).requires_grad_(False).eval().to(next(encoder.parameters()))
        replacement.gain *= encoder.scale
        return replacement

    def save(self, folder: Path) -> None:
        """Write encoder.safetensors and encoder.json; each is written atomically.

        Raises:
            InputError: the folder cannot be written
        """
        write_tensors(folder / WEIGHTS_FILE, self.state_dict())
        write_json(folder / CONFIG_FILE, {"vae": self.vae, **to_dict(self.shape)})

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Load a saved encoder, in evaluation mode.

        Args:
            folder: folder with encoder.json and encoder.safetensors

        Raises:
            InputError: a file is missing or damaged, or the weights do not match the shape
        """
        folder = Path(folder).expanduser()
        path, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
        if not path.is_file():
            raise InputError(f"no small encoder at {folder}: give a folder that metaprompts distill-encoder wrote")
        values = read_json(path)
        if not isinstance(values, dict) or not isinstance(values.get("vae"), str):
            raise InputError(
                f"{path} does not name the distilled VAE; expected a file written by metaprompts distill-encoder"
            )
        vae = values.pop("vae")
        try:
            shape = from_dict(EncoderShape, values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        # Allocate tensors only after checking that the weights file contains them.
        with torch.device("meta"):
            encoder = cls(shape, vae)
        load_tensors(encoder, read_tensors(weights), origin=weights)
        return encoder.eval()


class ResidualBlock(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Change features (B, C, h, w)."""
        return features + self.second(F.relu(self.first(F.relu(features))))  # type: ignore[no-any-return]


def vae_fingerprint(encoder: LatentEncoder) -> str:
    """A fingerprint of a VAE encoder's weights, rounded so that files in single and half precision agree.

    Args:
        encoder: the encoder, on any device
    """
    return tensors_fingerprint(vae_tensors(encoder), dtype=torch.float16)
