"""Run a distillation, and measure the encoder on held-out images."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from metaprompts.data.io.file_search import check_outside
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.models.loading import load
from metaprompts.models.pretrained import CONFIG_FILE
from metaprompts.modules.backbone import LatentEncoder, load_backbone
from metaprompts.modules.backbone.distilled_encoder import EncoderShape, SmallEncoder, vae_fingerprint
from metaprompts.pretraining.distillation.config import Distillation
from metaprompts.pretraining.distillation.images import (
    FolderImages,
    Images,
    SceneImages,
    middle_crop,
    random_crop,
)
from metaprompts.pretraining.train_loop import TrainConfig, step_generators, train
from metaprompts.utils.batches import batched
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.device import pick_device
from metaprompts.utils.files import write_json
from metaprompts.utils.locks import writing_into
from metaprompts.utils.schema import to_dict
from metaprompts.utils.torch_modules import channels_last
from metaprompts.visualize.text import ImageArray

REPORT_FILE = "report.json"


@dataclass(frozen=True, kw_only=True)
class LatentError:
    """The error of a small encoder's latents on held-out images.

    Attributes:
        images: number of images
        mean_absolute: mean absolute error, in standard deviations of the VAE's latents
        unexplained: mean squared error as a fraction of the latents' variance; 0 is exact, 1 is no better
            than always predicting the mean
        worst_channel: unexplained fraction of the variance in the worst latent channel
        parameters: number of parameters of the small encoder
        vae_parameters: number of parameters of the VAE's encoder
    """

    images: int
    mean_absolute: float
    unexplained: float
    worst_channel: float
    parameters: int
    vae_parameters: int


@dataclass
class DistillationObjective:
    """The objective: reproduce the teacher's latents for crops of images.

    Attributes:
        model: the encoder to train
        teacher: the VAE's encoder
        images: source of crops
        settings: settings of the distillation
    """

    model: SmallEncoder
    teacher: LatentEncoder
    images: Images
    settings: Distillation

    def losses(self, step: int) -> dict[str, Tensor]:
        """The mean absolute and the mean squared error, in standard deviations of the VAE's latents."""
        settings = self.settings
        numbers, _ = step_generators(settings.seed, step)
        crops = [random_crop(self.images.draw(numbers), settings.crop, numbers) for _ in range(settings.batch_size)]
        images = to_images(crops).to(next(self.model.parameters()).device)
        error = (self.model(images) - self.teacher(images)) * self.model.shape.latent_scale
        return {"absolute": error.abs().mean(), "squared": error.square().mean()}


def distill(settings: Distillation, progress: Callback) -> LatentError:
    """Train or resume; write encoder.safetensors, encoder.json and report.json.

    Args:
        settings: settings of the distillation
        progress: called at every step

    Raises:
        InputError: the VAE or the images cannot be read, the folder holds a run that trains a different encoder, or the
        loss
            or the weights are non-finite
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.data is not None:
        check_outside(settings.out, settings.data)
    with writing_into(settings.out, "distill-encoder", deep=True):
        return _distill(settings, progress)


def _distill(settings: Distillation, progress: Callback) -> LatentError:
    device = pick_device(settings.device)
    # An image folder is checked before the VAE is read; scenes are drawn afterwards, because drawing also takes long.
    found = None if settings.data is None else _images(settings)
    teacher, scaling = read_teacher(settings.source)
    teacher.to(device)
    channels_last(teacher)
    images = found or _images(settings)
    folder = settings.out / "training"
    if settings.resume == "never":
        shutil.rmtree(folder, ignore_errors=True)
    student = _student(settings, teacher, scaling).to(device)
    train_config = TrainConfig(
        settings=settings,
        seed=settings.seed,
        folder=folder,
        identity={"vae": student.vae, **to_dict(student.shape), "data": str(settings.data or "scenes")},
        checkpoint_seconds=settings.checkpoint_seconds,
    )
    write_json(settings.out / "settings.json", to_dict(settings))
    train(DistillationObjective(student, teacher, images, settings), train_config, progress)
    return _finish(student.eval(), teacher, images, settings)


def read_teacher(source: str) -> tuple[LatentEncoder, float]:
    """The VAE's encoder of a model or a backbone, unscaled and in single precision, and its scaling factor.

    Args:
        source: a model folder, the name of an embedded model, or a source for `load_backbone`

    Raises:
        InputError: the model or backbone does not exist
    """
    if source in embedded_models() or (Path(source).expanduser() / CONFIG_FILE).is_file():
        model = load(source, "cpu")
        teacher, config = model.latent_encoder, model.config.backbone.vae
    else:
        vae = load_backbone(source).vae
        teacher, config = LatentEncoder(vae), vae.config
    # Double precision is unnecessary, because the small encoder only approximates these latents.
    teacher.precise, teacher.scale = False, 1.0
    return teacher, float(config["scaling_factor"])


def to_images(images: Sequence[ImageArray]) -> Tensor:
    """Images (H, W, 3) in 0..255 of one size -> (B, 3, H, W) in [0, 1], channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def _images(settings: Distillation) -> Images:
    if settings.data is not None:
        return FolderImages(settings.data, held_out=settings.held_out, crop=settings.crop)
    return SceneImages(
        settings.out / "scenes",
        count=settings.scenes,
        held_out=settings.held_out,
        crop=settings.crop,
        workers=settings.workers,
    )


def _student(settings: Distillation, teacher: LatentEncoder, scaling: float) -> SmallEncoder:
    torch.manual_seed(settings.seed)
    moments: nn.Conv2d = teacher.encoder.conv_out
    shape = EncoderShape.of_width(
        settings.width,
        blocks=settings.blocks,
        halvings=teacher.stride.bit_length() - 1,
        latent_channels=moments.out_channels // 2,
        latent_scale=scaling,
    )
    student = SmallEncoder(shape, vae_fingerprint(teacher))
    channels_last(student)
    return student


def _finish(encoder: SmallEncoder, teacher: LatentEncoder, images: Images, settings: Distillation) -> LatentError:
    measured = measure(encoder, teacher, [middle_crop(each, settings.crop) for each in images.held_out()])
    if not math.isfinite(measured.unexplained):
        raise InputError("the encoder's latents are not finite: start over with a lower learning rate")
    encoder.save(settings.out)
    write_json(settings.out / REPORT_FILE, {"steps": settings.steps, **asdict(measured)})
    return measured


@torch.inference_mode()
def measure(encoder: SmallEncoder, teacher: LatentEncoder, images: Sequence[ImageArray], batch: int = 8) -> LatentError:
    """Compare the latents of two encoders.

    Args:
        encoder: a small encoder
        teacher: the VAE's encoder
        images: (H, W, 3) in 0..255, of one size
        batch: images per forward pass
    """
    device = next(encoder.parameters()).device
    batches = [to_images(each).to(device) for each in batched(images, batch)]
    truth = torch.cat([teacher(each).cpu() for each in batches]).double()
    error = torch.cat([encoder(each).cpu() for each in batches]).double() - truth
    variance = truth.var(dim=(0, 2, 3), correction=0)
    squared = error.square().mean(dim=(0, 2, 3))
    return LatentError(
        images=len(images),
        mean_absolute=float(error.abs().mean()) * encoder.shape.latent_scale,
        unexplained=float(squared.sum() / variance.sum()),
        worst_channel=float((squared / variance).max()),
        parameters=_count(encoder),
        vae_parameters=_count(teacher),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
