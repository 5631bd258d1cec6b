"""Stage export: assemble the trained parts in the published format of Stable Diffusion."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from diffusers import AutoencoderKL, StableDiffusionPipeline

from metaprompts.pretraining.config import Diffusion
from metaprompts.pretraining.sampling import captioned_sheet, generate_images
from metaprompts.pretraining.text_to_image import TextToImageModel, make_pipeline
from metaprompts.pretraining.tokenizer_stage import read_tokenizer
from metaprompts.utils.files import read_json, write_folder_whole, write_image, write_json
from metaprompts.utils.fingerprint import file_fingerprint

_SEED = 0


def export(out: Path, captions: Sequence[str], settings: Diffusion) -> None:
    """Write model/, a diffusers folder in half precision, load it again and draw samples.png with it.

    Args:
        out: the run folder
        captions: captions of the images to draw
        settings: how to draw them

    Raises:
        InputError: an earlier stage is missing, or the folder cannot be written
    """
    text_to_image = TextToImageModel.read(out / "diffusion/model")
    vae = AutoencoderKL.from_pretrained(out / "vae/model")
    identity = file_fingerprint(
        *sorted((out / "diffusion/model").rglob("*.safetensors")), *(out / "vae/model").glob("*.sa*")
    )
    record = out / "export.json"
    if (out / "model").is_dir() and record.is_file() and read_json(record).get("weights") == identity:
        return
    pipeline = make_pipeline(text_to_image, vae, read_tokenizer(out / "text"))
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.half()
    with write_folder_whole(out / "model") as scratch:
        pipeline.save_pretrained(scratch)
        # transformers then loads half-precision files in single precision, as diffusers does by default.
        config = scratch / "text_encoder/config.json"
        write_json(config, {**read_json(config), "dtype": "float32"})
        # transformers 5 writes a single tokenizer.json; other tools need vocab.json and merges.txt.
        shutil.copytree(out / "text", scratch / "tokenizer", dirs_exist_ok=True)
    loaded = StableDiffusionPipeline.from_pretrained(out / "model", local_files_only=True)
    drawn = generate_images(loaded, captions, _SEED, settings.sample_steps, settings.guidance)
    write_image(out / "samples.png", captioned_sheet(drawn, captions))
    write_json(record, {"weights": identity})
