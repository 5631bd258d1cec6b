"""Stage diffusion: train the UNet and the text encoder to denoise the cached latents."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from metaprompts.pretraining.array_shards import Rows
from metaprompts.pretraining.config import Diffusion
from metaprompts.pretraining.sampling import captioned_sheet, generate_images
from metaprompts.pretraining.text_to_image import NOISE, TextToImageModel, make_pipeline
from metaprompts.pretraining.train_loop import TrainConfig, step_generators, train
from metaprompts.training.data_parallel import SINGLE_PROCESS, ProcessGroup
from metaprompts.training.ema import WeightAverage
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.files import read_json, write_folder_whole, write_image, write_json
from metaprompts.utils.torch_modules import channels_last

_SAMPLE_SEED = 0


@dataclass
class DiffusionObjective:
    """Velocity prediction on noised latents.

    Attributes:
        model: the networks to train
        latents: rows (2, C, h, w): latents of an image and its mirror image
        tokens: (N, L), tokens of the captions, padded
        empty: (L,), tokens of the empty caption
        settings: settings of the stage
        seed: seed of images, noise and dropped captions
        process_group: the processes that train together, each on its own rows of a batch
    """

    model: TextToImageModel
    latents: Rows
    tokens: Tensor
    empty: Tensor
    settings: Diffusion
    seed: int
    process_group: ProcessGroup = SINGLE_PROCESS
    _scheduler: DDPMScheduler = field(default_factory=lambda: DDPMScheduler(**NOISE))

    def losses(self, step: int) -> dict[str, Tensor]:
        """MSE of the velocity (Salimans and Ho, 2022): the noise at early timesteps, the image at late timesteps."""
        size = self.settings.batch_size
        numbers, rng_state = step_generators(self.seed, step)
        rows = numbers.integers(len(self.latents), size=size)
        both = torch.from_numpy(self.latents.gather(rows)).float()
        # The whole batch is drawn, then split, so that it does not depend on the number of processes.
        clean = both[torch.arange(size), torch.from_numpy(numbers.integers(2, size=size))]
        dropped = torch.from_numpy(numbers.random(size) < self.settings.drop_caption)
        tokens = torch.where(dropped[:, None], self.empty, self.tokens[torch.from_numpy(rows)])
        timesteps = torch.from_numpy(numbers.integers(self._scheduler.config.num_train_timesteps, size=size))
        noise = torch.randn(clean.shape, generator=rng_state)
        clean, noise, timesteps, tokens = map(self.process_group.share, (clean, noise, timesteps, tokens))
        noisy = self._scheduler.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
        velocity = self._scheduler.get_velocity(clean, noise, timesteps)
        return {"velocity": (self.model(noisy, timesteps, tokens) - velocity).square().mean()}


@dataclass(frozen=True, kw_only=True)
class Words:
    """The captions and their tokenizer.

    Attributes:
        tokenizer: tokenizer of the stage text
        captions: captions of the scenes, one for each row of latents
        samples: captions for sample sheets
    """

    tokenizer: CLIPTokenizer
    captions: Sequence[str]
    samples: Sequence[str]

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """(N, L), padded or truncated to the tokenizer's maximum length."""
        read = self.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")
        return read["input_ids"]  # type: ignore[no-any-return]


def train_diffusion(
    text_to_image: TextToImageModel,
    vae: AutoencoderKL,
    latents: Rows,
    words: Words,
    settings: Diffusion,
    train_config: TrainConfig,
    progress: Callback,
) -> None:
    """Train or resume, then write model/ and finished.json to the run's folder.

    Periodically writes a sample sheet to samples/.

    Args:
        text_to_image: the untrained networks
        vae: decodes the samples
        latents: rows (2, C, h, w)
        words: one caption for each row
        settings: settings of the stage
        train_config: the training config
        progress: called at every step

    Raises:
        InputError: the loss is non-finite, or a checkpoint does not match
    """
    channels_last(text_to_image)
    captions, empty = words.tokens(words.captions), words.tokens([""])[0]
    objective = DiffusionObjective(
        text_to_image, latents, captions, empty, settings, train_config.seed, train_config.process_group
    )

    def draw(step: int, average: WeightAverage) -> None:
        if step % settings.sample_every and step != settings.steps:
            return
        pipeline = make_pipeline(text_to_image, vae, words.tokenizer)
        with average.in_place():
            drawn = generate_images(pipeline, words.samples, _SAMPLE_SEED, settings.sample_steps, settings.guidance)
        write_image(train_config.folder / f"samples/{step:06d}.png", captioned_sheet(drawn, words.samples))

    train(objective, train_config, progress, draw)
    if not train_config.process_group.is_first:
        return
    with write_folder_whole(train_config.folder / "model") as scratch:
        text_to_image.save(scratch)
    # Written last, so that its existence means that the stage is finished.
    write_json(train_config.folder / "finished.json", {"steps": settings.steps})


def diffusion_is_finished(folder: Path, settings: Diffusion) -> bool:
    """Whether a run of at least this many steps is finished."""
    path = folder / "finished.json"
    return path.is_file() and read_json(path).get("steps", 0) >= settings.steps
