"""A task of another package: the gray of each pixel, from files that hold it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from metaprompts.data.config.base import Openers, PairedSection, Side
from metaprompts.data.datasets.pairs import FilePairs
from metaprompts.data.io.list_files import find_pairs
from metaprompts.data.sample import DenseTarget, Sample, Split
from metaprompts.data.transforms.geometric import Pad, RandomCrop, RandomFlip
from metaprompts.data.transforms.transform import Transform
from metaprompts.metrics.prompt_statistics import ClassResponses
from metaprompts.modules.heads.deconv import DenseHead
from metaprompts.tasks.base import About, FusedTask
from metaprompts.tasks.preprocess import ModelInput, enlarged_bands
from metaprompts.tasks.protocol import EvaluationProtocol
from metaprompts.tasks.standalone.dense import between, resized


@dataclass(frozen=True, kw_only=True)
class GrayData(PairedSection):
    task: ClassVar[str] = "gray"

    def parts(self, split: Split) -> Openers:
        return {split: lambda: Pairs(find_pairs(self.folder(), *self.names(split)))}

    def unlabeled(self) -> dict[str, str]:
        return {}

    official = unlabeled


class Pairs(FilePairs):
    def __getitem__(self, index: int) -> Sample:
        image, target = (np.asarray(Image.open(path)) for path in self.files(index))
        gray = target.astype(np.float32) / 255
        return Sample(image=image, path=self.path(index), dense={"gray": DenseTarget(values=gray, nothing=-1)})


@dataclass(frozen=True, kw_only=True)
class GrayAugment:
    crop_size: tuple[Side, Side]

    def keeps_images(self, data: GrayData) -> bool:
        return self.crop_size == data.image_size

    def transforms(self, data: GrayData) -> list[Transform]:
        return [*data.scale((1.0, 1.0)), RandomFlip(), RandomCrop(*self.crop_size), Pad(*self.crop_size)]


class GrayProtocol(EvaluationProtocol):
    def predict(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        return model(batch["image"])


class GrayScores:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.pixels = 0.0, 0

    def update(self, predicted: Tensor, target: Tensor) -> None:
        known = target >= 0
        self.total += float((predicted - target)[known].abs().sum())
        self.pixels += int(known.sum())

    def scores(self) -> dict[str, float]:
        return {"difference": self.total / self.pixels if self.pixels else float("nan")}

    summary = scores

    def state(self) -> dict[str, Any]:
        return {"total": self.total, "pixels": self.pixels}

    def add(self, state: Mapping[str, Any]) -> None:
        self.total += state["total"]
        self.pixels += state["pixels"]


@dataclass(frozen=True, eq=False)
class GrayPrediction:
    gray: np.ndarray
    image: np.ndarray

    def show(self, *, legend: bool = True) -> Image.Image:
        return Image.fromarray(np.rint(self.gray.clip(0, 1) * 255).astype(np.uint8)).convert("RGB")

    def save(self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        self.show().save(path := folder / f"{stem}_gray.png")
        return [path]


def save_result(outputs: list[Any], image: Any, boxes: list[list[float]], facts: dict[str, Any]) -> str:
    gray = resized(outputs[0], image.shape[:2], between)[0]
    Image.fromarray(np.rint(gray.clip(0, 1) * 255).astype(np.uint8)).save("gray.png")
    return "gray.png"


@dataclass(frozen=True, kw_only=True)
class Gray(FusedTask):
    """Settings of gray.

    Attributes:
        filters: channels of the head's transposed convolutions
        width: channels of the head's convolutions
    """

    name: ClassVar[str] = "gray"
    data: ClassVar[type[Any]] = GrayData
    augment: ClassVar[type[Any]] = GrayAugment
    protocol: ClassVar[type[EvaluationProtocol]] = GrayProtocol
    metrics: ClassVar[tuple[str, ...]] = ("difference",)
    best_by: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"difference": "lower"}
    nothing_scored: ClassVar[str] = "no pixel of the validation split has a gray"
    example: ClassVar[Callable[..., str]] = staticmethod(save_result)
    about: ClassVar[About] = About(title="Gray", text="As it is.", scores={"difference": "mean"}, constant="the mean")

    filters: int = 8
    width: int = 16

    @property
    def outputs(self) -> int:
        return 1

    def head(self, channels: int, levels: int) -> nn.Module:
        return DenseHead(channels, filters=self.filters, width=self.width, outputs=1, upsample=self.upsample)

    def empty_targets(self, images: int, height: int, width: int) -> dict[str, Tensor]:
        return {"gray": torch.empty(images, height, width)}

    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        known = batch["gray"] >= 0
        errors = (self._at_size(raw, batch) - batch["gray"]).abs() * known
        return {"l1": errors.sum() / known.sum().clamp_min(1)}

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch["gray"].unsqueeze(1)

    def decode(self, raw: Tensor) -> Tensor:
        return raw.squeeze(1)

    def metric(self, **metric_kwargs: Any) -> GrayScores:
        return GrayScores()

    def score(self, metric: GrayScores, raw: Tensor, batch: Mapping[str, Tensor]) -> None:
        metric.update(self._at_size(raw, batch), batch["gray"])

    def _at_size(self, raw: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        size = batch["gray"].shape[-2:]
        return F.interpolate(raw, size=size, mode="bilinear", align_corners=False).squeeze(1)

    def constant_output(self, batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
        return torch.cat([batch["gray"] for batch in batches]).mean(dim=0)[None, None]

    def prompt_responses(self, prompts: int) -> ClassResponses:
        class DarkAndBright(ClassResponses):
            def update(self, maps: Tensor, batch: Mapping[str, Tensor]) -> None:
                super().update(maps, {"labels": (batch["gray"] > 0.5).long()})

        return DarkAndBright(prompts, ("dark", "bright"))

    def draw_target(self, sample: Sample) -> np.ndarray:
        return np.asarray(GrayPrediction(sample.dense["gray"].values, sample.image).show())

    def export_output(self, size: tuple[int, int]) -> dict[str, Any]:
        return {"name": "gray", "shape": ["batch", 1, *size], "meaning": "Gray, 0 to 1."}

    def assemble(self, image: np.ndarray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> GrayPrediction:
        ((_, raw),) = outputs
        gray = np.empty(image.shape[:2], np.float32)
        for rows, band in enlarged_bands(raw[0].float(), (image.shape[0], image.shape[1])):
            gray[rows] = band.numpy()
        return GrayPrediction(gray, image)
