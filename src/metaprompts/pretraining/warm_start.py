"""Start from a finished Stable Diffusion folder instead of from random weights."""

import shutil
from pathlib import Path

from metaprompts.embedded import BACKBONE, embedded_folder
from metaprompts.errors import InputError
from metaprompts.utils.files import write_folder_whole
from metaprompts.utils.fingerprint import file_fingerprint

_NEEDED = (
    "vae/diffusion_pytorch_model.safetensors",
    "tokenizer/vocab.json",
    "unet/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
)


def published_folder(source: Path) -> Path:
    """The folder of a source.

    Args:
        source: a folder that `metaprompts pretrain` wrote, or "micro", the model inside this package

    Raises:
        InputError: the folder lacks a part
    """
    folder = source.expanduser()
    if str(source) == BACKBONE and not folder.exists():
        folder = embedded_folder(BACKBONE)
    if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise InputError(
            f"init_from {source} lacks {', '.join(missing)}: give a folder written by `metaprompts pretrain`"
        )
    return folder


def published_fingerprint(folder: Path) -> str:
    """A fingerprint of the weights of UNet and text encoder."""
    return file_fingerprint(*(folder / name for name in _NEEDED[2:]))


def take_over(part: Path, target: Path) -> None:
    """Copy a part atomically.

    Raises:
        InputError: the part cannot be written
    """
    with write_folder_whole(target) as scratch:
        shutil.copytree(part, scratch, dirs_exist_ok=True)
