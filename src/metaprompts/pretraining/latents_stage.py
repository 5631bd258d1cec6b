"""Stage latents: encode every scene and its mirror image once, because the VAE is frozen."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from diffusers import AutoencoderKL

from metaprompts.errors import InputError
from metaprompts.pretraining.array_shards import Rows, missing_parts, write_part
from metaprompts.pretraining.vae_stage import encode
from metaprompts.utils.batches import batched
from metaprompts.utils.files import read_json, write_json
from metaprompts.utils.fingerprint import file_fingerprint
from metaprompts.utils.progress import tracked
from metaprompts.utils.torch_modules import channels_last

_BATCH = 10
_WEIGHTS = "diffusion_pytorch_model.safetensors"


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
    batches = sum(len(batched(rows, _BATCH)) for rows in missing)
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
        for batch in batched(rows, _BATCH):
            gathered = images.gather(batch)
            both = np.concatenate([gathered, gathered[:, :, ::-1]])
            plain, mirrored = np.split(encode(vae, both).numpy().astype(np.float16), 2)
            latents.append(np.stack([plain, mirrored], axis=1))
            yield
        write_part(folder, rows, np.concatenate(latents))
