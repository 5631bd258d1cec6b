"""Stages vae and latents: train the image autoencoder, standardize its latents, measure it; encode all scenes once."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.pretraining.array_shards import Rows, missing_parts, write_part
from metaprompts.pretraining.config import Vae
from metaprompts.pretraining.reconstruction import (
    Reconstruction,
    blocky,
    chroma_loss,
    color_loss,
    edge_loss,
    kl_loss,
    pooled_loss,
)
from metaprompts.pretraining.train_loop import TrainConfig, step_generators, train
from metaprompts.pretraining.vae_init import begin_at_block_averages
from metaprompts.utils.batches import batched
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.files import read_json, write_folder_whole, write_image, write_json
from metaprompts.utils.fingerprint import file_fingerprint
from metaprompts.utils.progress import tracked
from metaprompts.utils.schema import from_dict
from metaprompts.utils.torch_modules import channels_last
from metaprompts.visualize.sheets import contact_sheet

_STANDARDIZED_ON = 1_000
_LEAST_SPREAD = 1e-3
_SHOWN = 8
_BATCH = 8
_LATENTS_BATCH = 10
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_MARGIN_DB = 1.0
_CHROMA_TOLERANCE = 0.15


def to_pixels(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) in 0..255 -> (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) in 0..255."""
    scaled = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().numpy()


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: NDArray[np.uint8]) -> Tensor:
    """Images (B, H, W, 3) in 0..255 -> the posterior's mean (B, C, H / 8, W / 8)."""
    posterior: Any = vae.encode(to_pixels(images)).latent_dist
    return posterior.mode()  # type: ignore[no-any-return]


@torch.inference_mode()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) -> images (B, 3, 8 h, 8 w) in [-1, 1], except for overshoot."""
    return vae.decode(latents).sample  # type: ignore[no-any-return]


@dataclass
class VaeObjective:
    """The objective: reconstruct crops, and at the end whole images.

    Attributes:
        model: the VAE to train
        images: rows (H, W, 3) in 0..255
        settings: settings of the stage
        seed: seed of crops, flips and latent noise
    """

    model: AutoencoderKL
    images: Rows
    settings: Vae
    seed: int

    def losses(self, step: int) -> dict[str, Tensor]:
        """The weighted loss terms."""
        settings = self.settings
        numbers, noise = step_generators(self.seed, step)
        pixels = to_pixels(self._batch(step, numbers))
        posterior = self.model.encode(pixels).latent_dist
        drawn = torch.randn(posterior.mean.shape, generator=noise)
        error = self.model.decode(posterior.mean + posterior.std * drawn).sample - pixels
        kl_weight = settings.kl_weight * min(1.0, (step + 1) / max(settings.kl_warmup_steps, 1))
        return {
            "color": color_loss(error),
            "chroma": settings.chroma_weight * chroma_loss(error),
            "edges": settings.edge_weight * edge_loss(error),
            "pooled": settings.pooled_weight * pooled_loss(error),
            "kl": kl_weight * kl_loss(posterior.mean, posterior.logvar),
        }

    def _batch(self, step: int, numbers: np.random.Generator) -> Any:
        settings = self.settings
        height, width = self.images[0].shape[:2]
        down, across, size = settings.crop, settings.crop, settings.batch_size
        if step >= settings.steps - round(settings.steps * settings.whole_share):
            # As many pixels per batch as with crops.
            size = max(1, size * down * across // (height * width))
            down, across = height, width
        crops = []
        for row in numbers.integers(len(self.images), size=size):
            top, left = numbers.integers(height - down + 1), numbers.integers(width - across + 1)
            crop = self.images[int(row)][top : top + down, left : left + across]
            crops.append(crop[:, ::-1] if numbers.random() < 0.5 else crop)
        return np.stack(crops)


def train_vae(
    config: dict[str, Any],
    settings: Vae,
    train_config: TrainConfig,
    images: Rows,
    held_out: Rows,
    progress: Callback,
) -> Reconstruction:
    """Train or resume, then write model/, metrics.json and sheet.png to the run's folder.

    Args:
        config: config of AutoencoderKL
        settings: settings of the stage
        train_config: the training config
        images: training images
        held_out: evaluation images
        progress: called at every step

    Raises:
        InputError: the config cannot be built, the loss is non-finite, or a checkpoint does not match
    """
    torch.manual_seed(train_config.seed)
    vae = AutoencoderKL.from_config(config)
    begin_at_block_averages(vae)
    train(VaeObjective(channels_last(vae), images, settings, train_config.seed), train_config, progress)
    vae.eval()
    some = min(_STANDARDIZED_ON, len(images))
    mean, std = channel_moments(_encode_rows(vae, images, some))
    # An unused latent channel has zero standard deviation.
    each = std.clamp_min(_LEAST_SPREAD)
    standardize(vae, mean, each if settings.equal_channels else std.square().mean().sqrt().expand_as(std))
    latent = {"channel_means": mean.tolist(), "channel_stds": std.tolist()}
    return _finish(vae, settings, train_config.folder, held_out, latent)


def channel_moments(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel.

    Args:
        latents: (B, C, h, w)

    Returns:
        (C,) and (C,), in double precision
    """
    channels = latents.double().transpose(0, 1).flatten(1)
    return channels.mean(dim=1), channels.std(dim=1, correction=0)


@torch.no_grad()
def standardize(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Change a VAE to encode to (latent - mean) / std, without changing decoded images.

    The encoder's last convolution gives the posterior's mean m and log variance v: m becomes (m - mean) / std and v
    becomes v - 2 ln std. The decoder's first convolution takes z * std + mean. The scaling factor becomes 1.

    Args:
        vae: changed in place; the change is exact, except that diffusers limits the log variance to [-30, 20]
        mean: (C,), mean of the posterior's mean over many images
        std: (C,), the divisor: the standard deviation, or the same number for all channels, which keeps their relative
            spread
    """
    assert vae.quant_conv is not None
    assert vae.post_quant_conv is not None
    encode, decode = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    weight, bias = encode.weight.double(), encode.bias.double()
    weight[:channels] /= std[:, None, None, None]
    bias[:channels] = (bias[:channels] - mean) / std
    bias[channels:] -= 2 * std.log()
    encode.weight.copy_(weight)
    encode.bias.copy_(bias)

    weight, bias = decode.weight.double(), decode.bias.double()
    decode.bias.copy_(bias + weight[:, :, 0, 0] @ mean)
    decode.weight.copy_(weight * std[None, :, None, None])
    vae.register_to_config(scaling_factor=1.0)


def take_over_vae(part: Path, settings: Vae, folder: Path, held_out: Rows) -> Reconstruction:
    """Write the outputs of `train_vae` for a VAE that is already trained.

    Args:
        part: folder vae/ of a diffusers folder
        settings: settings of the stage, which this function completes
        folder: folder of the stage
        held_out: evaluation images
    """
    vae = AutoencoderKL.from_pretrained(part)
    channels_last(vae)
    return _finish(vae, settings, folder, held_out, {"taken_from": str(part)})


def _finish(vae: AutoencoderKL, settings: Vae, folder: Path, held_out: Rows, facts: dict[str, Any]) -> Reconstruction:
    measured = _measure(vae, held_out, folder / "sheet.png")
    with write_folder_whole(folder / "model") as scratch:
        vae.save_pretrained(scratch)
    # Metrics are written last, so that their existence means that the stage is finished.
    write_json(folder / "metrics.json", {"steps": settings.steps, **asdict(measured), **facts})
    return measured


def vae_is_finished(folder: Path, settings: Vae) -> bool:
    """Whether a run of at least this many steps has been measured."""
    path = folder / "metrics.json"
    return path.is_file() and read_json(path).get("steps", 0) >= settings.steps and (folder / "model").is_dir()


def check_vae_quality(folder: Path) -> None:
    """Check that the VAE beats averaged blocks and reproduces color.

    Raises:
        InputError: the VAE fails a check; the message gives the numbers
    """
    values = read_json(folder / "metrics.json")
    measured = from_dict(Reconstruction, {entry.name: values[entry.name] for entry in fields(Reconstruction)})
    if found := measured.shortcomings(margin_db=_MARGIN_DB, chroma_tolerance=_CHROMA_TOLERANCE):
        raise InputError(
            f"the VAE is not good enough to continue ({'; '.join(found)}): train it longer with --vae.steps, or "
            "continue anyway with --ignore-gates"
        )


def _encode_rows(vae: AutoencoderKL, images: Rows, count: int) -> Tensor:
    return torch.cat([encode(vae, images.gather(rows)) for rows in batched(range(count), _BATCH)])


def _measure(vae: AutoencoderKL, held_out: Rows, sheet: Path) -> Reconstruction:
    truth = to_pixels(held_out.gather(range(len(held_out))))
    latents = _encode_rows(vae, held_out, len(held_out))
    found = torch.cat([decode(vae, some) for some in torch.split(latents, _BATCH)])
    rows = [to_images(images[:_SHOWN]) for images in (truth, found, blocky(truth[:_SHOWN]))]
    captions = [[f"{name} {index}" for index in range(len(rows[0]))] for name in ("truth", "VAE", "averaged blocks")]
    write_image(sheet, contact_sheet([list(row) for row in rows], captions, cell=(truth.shape[2], truth.shape[3])))
    return Reconstruction.measure((truth + 1) / 2, (found.clamp(-1, 1) + 1) / 2)


def write_latents(vae_folder: Path, images: Rows, folder: Path) -> None:
    """Encode the images that have no latents yet.

    Args:
        vae_folder: folder of the trained VAE
        images: rows (H, W, 3) in 0..255
        folder: output folder for vae.json, which identifies the VAE, and for the latents, in parts: rows (2, C, H / 8,
            W / 8) of an image and its mirror image, in half precision

    Raises:
        InputError: the VAE is missing, or the folder cannot be written
    """
    identity = {"vae": vae_fingerprint(vae_folder)}
    if latents_of(folder) != identity["vae"]:
        for stale in folder.glob("*.npy"):
            stale.unlink()
        write_json(folder / "vae.json", identity)
    vae = AutoencoderKL.from_pretrained(vae_folder)
    channels_last(vae)
    height, width = images[0].shape[:2]
    stride = 2 ** (len(vae.config.block_out_channels) - 1)
    missing = missing_parts(folder, len(images), (2, vae.config.latent_channels, height // stride, width // stride))
    batches = sum(len(batched(rows, _LATENTS_BATCH)) for rows in missing)
    for _ in tracked(_encoded(vae, images, missing, folder), batches, what="encoding batches of scenes"):
        pass


def vae_fingerprint(vae_folder: Path) -> str:
    """A fingerprint of the VAE's weights.

    Raises:
        InputError: the VAE has no weights
    """
    if not (vae_folder / _WEIGHTS).is_file():
        raise InputError(f"no VAE in {vae_folder}: run stage vae first")
    return file_fingerprint(vae_folder / _WEIGHTS)


def latents_of(folder: Path) -> str | None:
    """The `vae_fingerprint` of the VAE that made the latents in a folder; None if there are none."""
    path = folder / "vae.json"
    return str(read_json(path)["vae"]) if path.is_file() else None


def _encoded(vae: AutoencoderKL, images: Rows, missing: list[range], folder: Path) -> Iterator[None]:
    for rows in missing:
        latents = []
        for batch in batched(rows, _LATENTS_BATCH):
            gathered = images.gather(batch)
            both = np.concatenate([gathered, gathered[:, :, ::-1]])
            plain, mirrored = np.split(encode(vae, both).numpy().astype(np.float16), 2)
            latents.append(np.stack([plain, mirrored], axis=1))
            yield
        write_part(folder, rows, np.concatenate(latents))
