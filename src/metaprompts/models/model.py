"""The model. Start here: `MetaPromptModel.prompt_maps` is the whole method."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.models import architecture
from metaprompts.models.config import ModelConfig, Prompts
from metaprompts.models.pretrained import PretrainedModel
from metaprompts.models.text_prompts import resolved, text_encoder_of
from metaprompts.modules.backbone import Backbone, LatentEncoder, PyramidUNet, load_backbone
from metaprompts.modules.backbone.lora import add_lora
from metaprompts.modules.backbone.second_encoder import SecondEncoder, with_maps
from metaprompts.modules.meta_prompts import CaptionPrompts, LabelPrompts, MetaPrompts, RecurrentRefinement
from metaprompts.utils.torch_modules import recomputed

if TYPE_CHECKING:
    from metaprompts.inference.video.api import VideoResult
    from metaprompts.modules.backbone.text_encoder import TextEncoder

_PROMPTS: dict[str, type[MetaPrompts | LabelPrompts | CaptionPrompts]] = {
    "meta": MetaPrompts,
    "label": LabelPrompts,
    "caption": CaptionPrompts,
}


class MetaPromptModel(
    PretrainedModel,
    library_name="metaprompts",
    tags=["image-segmentation", "depth-estimation", "keypoint-detection"],
    license="mit",
):
    """A text-to-image diffusion model turned into a perception model.

    Args:
        config: the model's config
        backbone: the backbone's networks; by default ``config.backbone`` with random weights

    Raises:
        InputError: the backbone does not match the config
    """

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        super().__init__(config)
        backbone = backbone or architecture.build(config.backbone)
        self.task = config.task
        steps = config.refinement.steps
        self.latent_encoder = LatentEncoder(backbone.vae, scaled=config.scaled_latent)
        self.unet = PyramidUNet(backbone.unet, refines=steps > 1)
        if config.base is not None:
            self.unet.requires_grad_(False)
        if config.lora is not None:
            add_lora(self.unet, config.lora.rank, config.lora.alpha)
        width, levels = self.unet.prompt_channels, self.unet.channels
        self.second_encoder = None if backbone.second is None else SecondEncoder(backbone.second, levels)
        self.prompts = _PROMPTS[config.prompts.kind](
            config.prompts.count, width, steps=steps, per_step=config.prompts.per_step, adapter=config.prompts.adapter
        )
        self.refinement = RecurrentRefinement(
            steps,
            self.unet.time_channels,
            modulated_time=config.refinement.modulated_time,
            time_std=config.refinement.time_std,
            match_latent=config.refinement.match_latent,
            detach=config.refinement.detach,
        )
        self.rearrangement = self.task.rearrangement(levels, width, enabled=config.rearrangement.enabled)
        channels = config.prompts.count if config.rearrangement.enabled else width
        self.head = self.task.head(channels, len(levels))
        self.auxiliary_head = self.task.auxiliary_head(channels)
        self._text_encoder: TextEncoder | None = None

    def forward(self, images: Tensor, context: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            images: (B, 3, H, W) RGB float in [0, 1]
            context: (B, N, D), captions encoded by `encode_captions`, if the prompts are captions; else None

        Returns:
            depth (B, 1, 8 * (H // 8), 8 * (W // 8)) in meters, segmentation logits (B, classes, H, W), or pose
            heatmaps (B, J, H / 4, W / 4)
        """
        return self.head(self.prompt_maps(images, context), _size(images))  # type: ignore[no-any-return]

    def prompt_maps(self, images: Tensor, context: Tensor | None = None) -> list[Tensor]:
        """The rearranged maps of the last step, which the head reads.

        Args:
            images: (B, 3, H, W) RGB float in [0, 1]
            context: (B, N, D), captions encoded by `encode_captions`, if the prompts are captions; else None

        Returns:
            (B, N, h, w) for each level, finest first; one map if the task fuses the levels
        """
        latent, maps = self._encoded(images)
        prompts = self.prompts(len(images), context)
        pyramid = self.refinement(self.unet, latent, prompts)
        return self.rearrangement(with_maps(pyramid, maps), prompts[-1])  # type: ignore[no-any-return]

    def prompt_maps_by_step(self, images: Tensor, context: Tensor | None = None) -> Iterator[list[Tensor]]:
        """Yield the rearranged maps of every step, first to last, each computed with the prompts of its own step.

        Step k uses the times and prompts of steps 1 to k. The last item equals `prompt_maps`, and is the only one on
        which head and rearrangement were trained.

        Args:
            images: (B, 3, H, W) RGB float in [0, 1]
            context: (B, N, D), captions encoded by `encode_captions`, if the prompts are captions; else None
        """
        latent, maps = self._encoded(images)
        prompts = self.prompts(len(images), context)
        pyramids = self.refinement.pyramids(self.unet, latent, prompts)
        for pyramid, of_step in zip(pyramids, prompts, strict=True):
            yield self.rearrangement(with_maps(pyramid, maps), of_step)

    def pyramid(self, images: Tensor, context: Tensor | None = None) -> list[Tensor]:
        """The UNet's four levels at the last step, without the maps of a second encoder.

        Args:
            images: (B, 3, H, W) RGB float in [0, 1]
            context: (B, N, D), captions encoded by `encode_captions`, if the prompts are captions; else None

        Returns:
            (B, C_l, h / 2^l, w / 2^l), finest first, where h and w are an eighth of the backbone's input size
        """
        latent = self.latent_encoder(self.task.resize_for_backbone(images))
        return self.refinement(self.unet, latent, self.prompts(len(images), context))  # type: ignore[no-any-return]

    def training_outputs(
        self, images: Tensor, context: Tensor | None = None, *, every_step: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The inputs of the task's losses: the raw output, and the auxiliary head's output if there is one.

        Args:
            images: (B, 3, H, W) RGB float in [0, 1]
            context: (B, N, D), captions encoded by `encode_captions`, if the prompts are captions; else None
            every_step: return the outputs of all K steps, first to last, concatenated along the batch: (K B, ...).
                Rearrangement and head process all steps at once, and are recomputed in the backward pass
        """
        latent, maps = self._encoded(images)
        prompts = self.prompts(len(images), context)
        if not every_step:
            pyramid = with_maps(self.refinement(self.unet, latent, prompts), maps)
            return self._read(pyramid, prompts[-1], _size(images))
        pyramids = [with_maps(each, maps) for each in self.refinement.pyramids(self.unet, latent, prompts)]
        # The first step rounds the latent to whole pixels of the coarsest level, so all steps have the same sizes.
        joined = [torch.cat(levels) for levels in zip(*pyramids, strict=True)]
        return recomputed(self._read, self, joined, torch.cat(prompts), _size(images))

    def _encoded(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The latent, and the second encoder's projected maps, if there is one."""
        seen = self.task.resize_for_backbone(images)
        return self.latent_encoder(seen), [] if self.second_encoder is None else self.second_encoder(seen)

    def _read(self, pyramid: Sequence[Tensor], prompts: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        maps = self.rearrangement(pyramid, prompts)
        return self.head(maps, size), None if self.auxiliary_head is None else self.auxiliary_head(maps, size)

    @property
    def device(self) -> torch.device:
        """The weights' device."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights, in which predictions are computed."""
        return next(self.parameters()).dtype

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Encode captions with the model's text encoder, which is loaded on first use, see `load_text_encoder`.

        Args:
            captions: B texts

        Returns:
            (B, N, D) float32, on the model's device

        Raises:
            InputError: the prompts are not captions, or the text encoder is unavailable
        """
        encoder = self._text_encoder or self.load_text_encoder()
        encoder.network.to(self.device)  # type: ignore[arg-type]
        return encoder.captions(captions)

    def load_text_encoder(self, source: str | None = None) -> "TextEncoder":
        """Load the text encoder; it is not part of the model's weights.

        Args:
            source: the text encoder's source, see `load_text_encoder` of `metaprompts.modules.backbone.text_encoder`;
                by default the source in config.json

        Raises:
            InputError: the prompts are not captions, or the text encoder does not exist or differs from training
        """
        prompts = self.config.prompts
        if prompts.kind != "caption":
            raise InputError(f"this model has {prompts.kind} prompts and reads no captions: omit the caption")
        self._text_encoder = text_encoder_of(replace(prompts, text_source=source or prompts.text_source))
        return self._text_encoder

    def predict(
        self,
        image: Any,
        boxes: Sequence[Sequence[float]] | Callable[[Any], Any] | None = None,
        caption: str | Tensor | None = None,
        *,
        window: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
    ) -> Any:
        """Predict one image of any size, at the image's own size.

        The image is resized to the training size, unless it is predicted in windows.

        Args:
            image: path, PIL image, or uint8 array (H, W, 3)
            boxes: pose only: (x, y, width, height[, score]) of each person, in pixels; or a detector, see
                `metaprompts.load_detector`; by default the whole image is treated as one person
            caption: caption of the image, if the prompts are captions: a text, or the output of `encode_captions`
                (N, D)
            window: segmentation and depth: (height, width) in pixels of overlapping windows, to predict the image at
                its own size, see `metaprompts.inference.predict`
            stride: (vertical, horizontal) step of the windows, in pixels; by default half of ``window``

        Returns:
            DepthPrediction, SegmentationPrediction or PosePrediction

        Raises:
            InputError: the image cannot be read, a caption is missing or unexpected, or the windows are invalid
        """
        if window is not None or stride is not None:
            from metaprompts.data.io.images import as_image
            from metaprompts.inference.predict import Windows, predict_in_windows

            return predict_in_windows(self, as_image(image), Windows.of(window, stride), boxes, caption)
        return next(self.predict_many([(image, boxes, caption)]))

    def predict_many(self, images: Iterable[Any], batch_size: int = 1) -> Iterator[Any]:
        """Predict images in order, several views per forward pass.

        Args:
            images: paths, PIL images or uint8 arrays (H, W, 3); or tuples of such an image, its boxes (or a detector,
                or None) and, if the prompts are captions, its caption, as for `predict`
            batch_size: equally sized views per forward pass
        """
        from metaprompts.inference.predict import predict_many

        return predict_many(self, images, batch_size)

    def predict_video(self, source: Any, out: str | Path, **options: Any) -> "VideoResult":
        """Predict a video, and draw the predictions as a clip: ``predict_video("clip.mp4", "depth.mp4")``.

        Args:
            source: path of a clip, or of a folder of frames (with ``fps=25``); or the number of a camera
            out: the clip to write, ``.mp4`` or ``.webm``
            options: boxes (a detector), caption, every, start_s, end_s, fps, steady, legend, batch_size, progress; see
                `metaprompts.inference.video.api.predict_video`

        Raises:
            InputError: the video cannot be read, or the clip cannot be written
        """
        from metaprompts.inference.video.api import predict_video

        return predict_video(self, source, out, **options)

    def predict_frames(self, source: Any, **options: Any) -> Iterator[tuple[float, Any]]:
        """Predict a video frame by frame: yields each frame's time in seconds, and the prediction.

        Args:
            source: as for `predict_video`
            options: boxes, caption, every, start_s, end_s, fps, steady, batch_size

        Raises:
            InputError: the video cannot be read
        """
        from metaprompts.inference.video.api import predict_frames

        return predict_frames(self, source, **options)

    @classmethod
    def from_backbone(cls, source: str | Backbone, *, second: str | None = None, **settings: Any) -> Self:
        """Build a model for training: a backbone's weights, tokens of its text encoder, fresh prompts and heads.

        Args:
            source: the backbone, or its source, see `load_backbone`; also the source of the text encoder, unless
                ``prompts`` names a different one
            second: source of a second encoder, see `load_second`; by default that of ``source``, if it is a backbone
            settings: the fields of `ModelConfig` except ``backbone``

        Raises:
            InputError: the backbone or the required text encoder cannot be loaded or does not match
        """
        backbone = load_backbone(source) if isinstance(source, str) else source
        if second is not None:
            from metaprompts.modules.backbone.second_loading import with_second

            backbone = with_second(backbone, second)
        prompts = settings.pop("prompts", Prompts())
        if prompts.text_source is None and isinstance(source, str):
            prompts = replace(prompts, text_source=source)
        filled, tokens = resolved(prompts, settings["task"], backbone.unet.config.cross_attention_dim)
        model = cls(ModelConfig(backbone=architecture.describe(backbone), prompts=filled, **settings), backbone)
        if tokens is not None:
            assert isinstance(model.prompts, LabelPrompts)
            model.prompts.tokens.copy_(tokens)
        return model


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]
