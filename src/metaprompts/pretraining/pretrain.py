"""Run all pre-training stages in order, skipping finished stages."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from metaprompts.embedded import BACKBONE, embedded_folder
from metaprompts.errors import InputError
from metaprompts.pretraining.array_shards import Rows, read_notes
from metaprompts.pretraining.config import Learning, Pretraining, StageName
from metaprompts.pretraining.diffusion_stage import Words, diffusion_is_finished, train_diffusion
from metaprompts.pretraining.sampling import captioned_sheet, generate_images
from metaprompts.pretraining.scenes_stage import HELD_OUT, TRAINING, Source, draw_scenes, generated_scene
from metaprompts.pretraining.text_to_image import (
    NOISE,
    Architecture,
    TextToImageModel,
    build_text_to_image,
    make_pipeline,
    read_architecture,
)
from metaprompts.pretraining.tokenizer_stage import read_tokenizer, write_tokenizer
from metaprompts.pretraining.train_loop import TrainConfig
from metaprompts.pretraining.vae_stage import (
    check_vae_quality,
    latents_of,
    take_over_vae,
    train_vae,
    vae_fingerprint,
    vae_is_finished,
    write_latents,
)
from metaprompts.training.data_parallel import ProcessGroup, training_together
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.files import read_json, write_folder_whole, write_image, write_json
from metaprompts.utils.fingerprint import file_fingerprint
from metaprompts.utils.locks import writing_into
from metaprompts.utils.schema import to_dict

_SAMPLES = 8
_SAMPLE_SEED = 0
# UNet and text encoder last: their weights identify the networks that training starts from.
_NEEDED = (
    "vae/diffusion_pytorch_model.safetensors",
    "tokenizer/vocab.json",
    "unet/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder and its contents.

    Attributes:
        settings: settings of every stage
        architecture: architecture of the networks
        source: source of the scenes
        progress: called at every step
        start: a Stable Diffusion folder to start from; None for random weights
    """

    settings: Pretraining
    architecture: Architecture
    source: Source
    progress: Callback
    start: Path | None

    def folder(self, stage: StageName) -> Path:
        """The output folder of a stage."""
        return self.settings.out / stage

    def train_config(self, stage: StageName, learning: Learning, identity: dict[str, object]) -> TrainConfig:
        """The train config of a stage."""
        return TrainConfig(
            settings=learning,
            seed=self.settings.seed,
            folder=self.folder(stage),
            identity=identity,
            checkpoint_seconds=self.settings.checkpoint_seconds,
        )

    def images(self, split: str, count: int) -> Rows:
        """The first scenes of a split, (H, W, 3) in 0..255."""
        return Rows(self.folder("scenes") / split, count)

    def captions(self, split: str, count: int) -> list[str]:
        """The captions of the first scenes of a split."""
        return read_notes(self.folder("scenes") / split, count)

    def samples(self) -> list[str]:
        """Captions of held-out scenes for drawing samples."""
        return self.captions(HELD_OUT, self.settings.scenes.held_out)[:_SAMPLES]

    def diffusion_identity(self, vae: str) -> dict[str, object]:
        """The values that a checkpoint of the diffusion stage must match."""
        networks = {"unet": self.architecture.unet, "text_encoder": self.architecture.text_encoder}
        return {
            **(
                {"init_from": file_fingerprint(*(self.start / name for name in _NEEDED[2:]))}
                if self.start
                else networks
            ),
            "noise": NOISE,
            "vae": vae,
            "words": file_fingerprint(self.folder("text") / "vocab.json", self.folder("text") / "merges.txt"),
        }


def pretrain(
    settings: Pretraining,
    progress: Callback,
    *,
    stage: StageName | None = None,
    source: Source = generated_scene,
) -> None:
    """Run the unfinished stages.

    Args:
        settings: settings of every stage
        progress: called at every step
        stage: the only stage to run; None for all, in order
        source: source of the scenes

    Raises:
        InputError: an earlier stage is missing or not good enough, or the folder holds other files
    """
    _use_threads(settings)
    run = Run(
        settings=settings,
        architecture=read_architecture(settings.architecture),
        source=source,
        progress=progress,
        start=_published_folder(settings.init_from) if settings.init_from else None,
    )
    with writing_into(settings.out, "pretrain", deep=True):
        write_json(settings.out / "settings.json", to_dict(settings))
        for name, work in _STAGES.items():
            if stage in (None, name):
                work(run)


def _published_folder(source: Path) -> Path:
    """The folder of a source: a folder that `metaprompts pretrain` wrote, or "micro", the model in this package."""
    folder = source.expanduser()
    if str(source) == BACKBONE and not folder.exists():
        folder = embedded_folder(BACKBONE)
    if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise InputError(
            f"init_from {source} lacks {', '.join(missing)}: give a folder written by `metaprompts pretrain`"
        )
    return folder


def _vae(run: Run) -> None:
    settings, folder = run.settings.vae, run.folder("vae")
    if vae_is_finished(folder, settings):
        return
    images = run.images(TRAINING, settings.scenes)
    held_out = run.images(HELD_OUT, run.settings.scenes.held_out)
    if run.start:
        take_over_vae(run.start / "vae", settings, folder, held_out)
        return
    train_config = run.train_config("vae", settings, {"architecture": run.architecture.vae})
    train_vae(run.architecture.vae, settings, train_config, images, held_out, run.progress)


def _latents(run: Run) -> None:
    if not run.settings.ignore_gates:
        check_vae_quality(run.folder("vae"))
    images = run.images(TRAINING, run.settings.scenes.count)
    write_latents(run.folder("vae") / "model", images, run.folder("latents"))


def _text(run: Run) -> None:
    # An existing vocabulary is kept, because the diffusion stage is trained with it.
    if run.folder("text").is_dir():
        return
    if run.start:
        with write_folder_whole(run.folder("text")) as scratch:
            shutil.copytree(run.start / "tokenizer", scratch, dirs_exist_ok=True)
    else:
        write_tokenizer(run.captions(TRAINING, run.settings.scenes.count), run.settings.text, run.folder("text"))


def _diffusion(run: Run) -> None:
    settings, folder = run.settings.diffusion, run.folder("diffusion")
    if diffusion_is_finished(folder, settings):
        return
    vae_folder = run.folder("vae") / "model"
    if latents_of(run.folder("latents")) != vae_fingerprint(vae_folder):
        raise InputError(f"{run.folder('latents')} was not made by the VAE in {vae_folder}: run stage latents first")
    with training_together(
        run.settings.processes, _train_diffusion, replace(run, progress=Callback())
    ) as process_group:
        _train_diffusion(process_group, run)


def _train_diffusion(process_group: ProcessGroup, run: Run) -> None:
    _use_threads(run.settings)
    vae_folder, count = run.folder("vae") / "model", run.settings.scenes.count
    tokenizer = read_tokenizer(run.folder("text"))
    train_config = run.train_config(
        "diffusion", run.settings.diffusion, run.diffusion_identity(vae_fingerprint(vae_folder))
    )
    torch.manual_seed(run.settings.seed)
    train_diffusion(
        TextToImageModel.read(run.start) if run.start else build_text_to_image(run.architecture, tokenizer),
        AutoencoderKL.from_pretrained(vae_folder),
        Rows(run.folder("latents"), count),
        Words(tokenizer=tokenizer, captions=run.captions(TRAINING, count), samples=run.samples()),
        run.settings.diffusion,
        replace(train_config, process_group=process_group),
        run.progress,
    )


def _use_threads(settings: Pretraining) -> None:
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)


def _export(run: Run) -> None:
    """Write model/, a diffusers folder in half precision, load it again and generate samples.png with it."""
    out, captions, settings = run.settings.out, run.samples(), run.settings.diffusion
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
    drawn = generate_images(loaded, captions, _SAMPLE_SEED, settings.sample_steps, settings.guidance)
    write_image(out / "samples.png", captioned_sheet(drawn, captions))
    write_json(record, {"weights": identity})


_STAGES: dict[StageName, Callable[[Run], None]] = {
    "scenes": lambda run: draw_scenes(run.settings.scenes, run.folder("scenes"), run.source),
    "vae": _vae,
    "latents": _latents,
    "text": _text,
    "diffusion": _diffusion,
    "export": _export,
}
