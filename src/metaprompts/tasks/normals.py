"""Surface normals: a unit vector for each pixel, cosine loss, angular errors. This file contains the whole task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.check import readable_samples
from metaprompts.data.config.base import Openers, PairedSection, Probability, Side
from metaprompts.data.datasets.pairs import FilePairs
from metaprompts.data.io.depth_files import DepthEncoding, read_depth_m
from metaprompts.data.io.list_files import find_pairs
from metaprompts.data.io.normal_files import normals_from_depth, read_normals, write_normals
from metaprompts.data.io.orientation import read_pair
from metaprompts.data.sample import DenseTarget, Sample, SampleDataset, Split
from metaprompts.data.transforms.color import DepthColor
from metaprompts.data.transforms.geometric import Pad, RandomCrop, RandomFlip
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.metrics.angles import ANGLE_SCORES, AngleScores
from metaprompts.metrics.prompt_statistics import ClassResponses
from metaprompts.tasks.base import About, FusedTask
from metaprompts.tasks.predictions.base import NotebookDisplay, stacked, write_raw
from metaprompts.tasks.preprocess import ModelInput, at_size, enlarged_bands
from metaprompts.tasks.protocol import Batch, EvaluationProtocol, with_context
from metaprompts.tasks.standalone.dense import Array, between, resized
from metaprompts.utils.files import write_image
from metaprompts.utils.lazy import lazy_module
from metaprompts.utils.schema import Range, check_ranges
from metaprompts.visualize.legends import legend_text_px
from metaprompts.visualize.segmentation import class_legend
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from metaprompts.tasks.protocol import Predictor
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")
    nn = lazy_module("torch.nn")

_TARGET = "normals"
_MIRRORED = (-1.0, 1.0, 1.0)
# The axes of OpenCV point right, down and forward.
_AXES = {"opengl": (1, 1, 1), "opencv": (1, -1, -1)}
_TRIED = 8
# Visible surfaces face the camera, except where interpolation blurs edges.
_AWAY_AT_MOST = 0.5
DIRECTIONS = {"right": (1, 0, 0), "left": (-1, 0, 0), "up": (0, 1, 0), "down": (0, -1, 0), "the camera": (0, 0, 1)}
"""Directions in which surfaces face, as unit vectors."""


@dataclass(frozen=True, kw_only=True)
class NormalsData(PairedSection):
    """Images with files of surface normals, or of depth from which normals are computed.

    Attributes:
        source: what label files hold: "normals", which are RGB images of 8 or 16 bits (0 means -1, the largest value 1;
            gray or black: no surface) or .npy (H, W, 3); or "depth", as for depth recipes
        axes: (normals) directions of x, y and z: "opengl": right, up and toward the camera, so surfaces that face the
            camera are blue; "opencv": right, down and away from the camera
        focal_px: (depth) the camera's focal length in pixels; the principal point is the image's center
        depth_scale: (depth) divisor of stored numbers; none means 1000 for integers (millimeters), 1 for floats
    """

    source: Literal["normals", "depth"] = "normals"
    axes: Literal["opengl", "opencv"] = "opengl"
    focal_px: Annotated[float, Range(0, 1e6, above=True)] | None = None
    depth_scale: Annotated[float, Range(1e-6, 1e9)] | None = None

    task: ClassVar[str] = "normals"
    shard_keys: ClassVar[dict[Split, tuple[str, ...]]] = dict.fromkeys(
        ("train", "val"), ("source", "axes", "focal_px", "depth_scale")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.source == "depth") != (self.focal_px is not None):
            raise InputError(
                f"data.source is {self.source}, data.focal_px {self.focal_px or 'none'}; expected a focal length in "
                "pixels with depth, and none with normals"
            )

    def parts(self, split: Split) -> Openers:
        """The parts of a split: a single one."""
        folders: Openers = {split: lambda: _NormalPairs(self, self.names(split))}
        return self.with_shards(split, lambda: self.reading_images(folders))

    def read(self, path: Path) -> NDArray[np.float32]:
        """Read normals (H, W, 3): right, up, toward the camera; 0 where there is no normal."""
        if self.focal_px is None:
            return read_normals(path) * np.array(_AXES[self.axes], np.float32)
        return normals_from_depth(read_depth_m(path, DepthEncoding(depth_scale=self.depth_scale)), self.focal_px)


class _NormalPairs(FilePairs):
    def __init__(self, data: NormalsData, names: tuple[str, str | None]) -> None:
        super().__init__(find_pairs(data.folder(), *names))
        self._read = data.read

    def __getitem__(self, index: int) -> Sample:
        image, normals = read_pair(*self._pairs[index], self._read, self.reading)
        target = DenseTarget(values=normals, mirrored=_MIRRORED)
        return Sample(image=image, path=self.path(index), dense={_TARGET: target})


@dataclass(frozen=True, kw_only=True)
class NormalsAugment:
    """Crops, mirror images, and the colors of the depth recipes.

    Attributes:
        crop_size: (height, width) of the crop; smaller images are then padded, with gray pixels and no surface
        flip: probability of mirroring, which also negates x of the normals
        color: whether to change brightness, contrast, gamma, hue, saturation and value
    """

    crop_size: tuple[Side, Side]
    flip: Probability = 0.5
    color: bool = True

    def __post_init__(self) -> None:
        check_ranges(self, "augment")

    def keeps_images(self, data: NormalsData) -> bool:
        """Whether an image is the same in every epoch, except for mirroring."""
        return self.crop_size == data.image_size and not self.color

    def transforms(self, data: NormalsData) -> list[Transform]:
        """The training transforms, in order."""
        size, color = self.crop_size, [DepthColor()] if self.color else []
        return [*data.scale((1.0, 1.0)), RandomFlip(self.flip), RandomCrop(*size), *color, Pad(*size)]


@dataclass(frozen=True, kw_only=True)
class NormalsProtocol(EvaluationProtocol):
    """Test protocol of surface normals. The normals of a mirrored image are mirrored back and averaged."""

    def predict(self, model: Predictor, batch: Batch) -> Tensor:
        """Vectors (B,3,h,w), not always of unit length."""
        predict = with_context(model, batch)
        raw = predict(batch["image"])
        if not self.flip:
            return raw
        mirrored = predict(batch["image"].flip(-1)).flip(-1)
        return (raw + mirrored * mirrored.new_tensor(_MIRRORED)[:, None, None]) / 2


@dataclass(frozen=True, eq=False, kw_only=True)
class NormalsPrediction(NotebookDisplay):
    """Surface normals of one image.

    Attributes:
        normals: (H,W,3) float32 unit vectors: right, up, toward the camera
        image: (H,W,3) uint8 RGB, the input image
        agreement: see `DepthPrediction`
    """

    normals: NDArray[np.float32]
    image: NDArray[np.uint8]
    agreement: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.normals.shape != self.image.shape:
            raise InputError(f"normals are {self.normals.shape}; expected the image's {self.image.shape}")

    def show(self, *, legend: bool = True) -> Image.Image:
        """Normals as colors: x, y and z are red, green and blue; with a legend below unless ``legend`` is off."""
        height, width = self.normals.shape[:2]
        strip = normals_legend(width, legend_text_px(height, width)) if legend else None
        return stacked(color_normals(self.normals), strip)

    def save(self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True) -> list[Path]:
        """Write the normals and their colors.

        Args:
            folder: output folder; created if missing
            stem: prefix of the file names
            raw: also write unit vectors as float32, ``STEM_normals.npy``
            legend: explain the colors below the image

        Returns:
            the files: ``STEM_normals.png``, 16-bit RGB, which training reads; ``STEM_normals_color.png``, at the
            image's resolution

        Raises:
            InputError: the folder cannot be written
        """
        paths = [folder / f"{stem}_normals.png", folder / f"{stem}_normals_color.png"]
        write_normals(paths[0], self.normals)
        write_image(paths[1], self.show(legend=legend))
        return paths + (write_raw(folder, stem, normals=self.normals, agreement=self.agreement) if raw else [])


def color_normals(normals: NDArray[np.float32]) -> ImageArray:
    """Normals (H, W, 3) as RGB, x red, y green and z blue; 128 means 0, and no surface is (128, 128, 128)."""
    colors: ImageArray = np.rint((normals + 1) * 127.5).astype(np.uint8)
    return colors


def normals_legend(width: int, size_px: int | None = None) -> ImageArray:
    """The colors of surfaces that face each of the `DIRECTIONS`; arguments as for `class_legend`."""
    colors = color_normals(np.array(list(DIRECTIONS.values()), np.float32))
    return class_legend([f"faces {name}" for name in DIRECTIONS], colors, width, size_px=size_px)


class DirectionResponses(ClassResponses):
    """Responses to surfaces, grouped by which of five directions the surface faces most."""

    kind = "direction"

    def update(self, maps: Tensor, batch: Batch) -> None:
        """Add the maps (B,N,h,w) of a batch."""
        super().update(maps, {"labels": _facing(batch[_TARGET])})


def _facing(normals: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, H, W), the direction that each surface faces most; 255 where there is no surface."""
    directions = torch.tensor(list(DIRECTIONS.values()), dtype=normals.dtype)
    most = torch.einsum("dc,bchw->bdhw", directions, normals).argmax(dim=1)
    return most.masked_fill(~_measured(normals), 255)


def save_result(outputs: list[Array], image: NDArray[np.uint8], boxes: list[list[float]], facts: dict[str, Any]) -> str:
    """Write normals.png at the image's size, with x, y and z as red, green and blue."""
    vectors = resized(outputs[0], image.shape[:2], between).transpose(1, 2, 0)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-6)
    Image.fromarray(np.rint((vectors + 1) * 127.5).astype(np.uint8)).save("normals.png")
    return "normals.png"


@dataclass(frozen=True, kw_only=True)
class Normals(FusedTask):
    """Settings of surface normals.

    Attributes:
        filters: channels of the head's transposed convolutions
        width: channels of the head's convolutions
        l1_weight: weight of the mean absolute difference of vectors, added to 1 - cosine; 0 disables it
    """

    name: ClassVar[str] = "normals"
    data: ClassVar[type[Any]] = NormalsData
    augment: ClassVar[type[Any]] = NormalsAugment
    protocol: ClassVar[type[EvaluationProtocol]] = NormalsProtocol
    metrics: ClassVar[tuple[str, ...]] = ANGLE_SCORES
    best_by: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"mean_deg": "lower", "median_deg": "lower"}
    nothing_scored: ClassVar[str] = "no pixel of the validation split has a normal"
    sheet_cell: ClassVar[tuple[int, int]] = (360, 320)
    # The image, the vectors, and bands of the vectors in 16 bits and in double precision.
    pixel_bytes: ClassVar[int] = 24
    example: ClassVar[Callable[..., str]] = staticmethod(save_result)
    about: ClassVar[About] = About(
        title="Surface normals: the direction that each surface faces",
        text="Red faces right, green up and blue the camera; gray is the sky, which has no surface.",
        scores={
            "mean_deg": "mean angle between predicted and true normals, in degrees",
            "within_11.25": "share of pixels whose normal is less than 11.25 degrees off",
        },
        constant="the mean normal at each pixel",
    )

    filters: Annotated[int, Range(1, 16384)] = 32
    width: Annotated[int, Range(1, 16384)] = 192
    l1_weight: Annotated[float, Range(0, 1e6)] = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, "task")

    @property
    def outputs(self) -> int:
        return 3

    def head(self, channels: int, levels: int) -> nn.Module:
        from metaprompts.modules.heads.deconv import NormalsHead

        return NormalsHead(channels, filters=self.filters, width=self.width, upsample=self.upsample)

    def check_samples(self, samples: SampleDataset, name: str, *, warns: bool = True) -> None:
        """Check that a few samples have normals that face the camera."""
        found = [sample.dense[_TARGET].values for sample in readable_samples(samples, at_most=_TRIED)]
        measured = np.concatenate([normals[normals.any(axis=2)] for normals in found] or [np.zeros((0, 3))])
        if found and not len(measured):
            raise InputError(f"no pixel in {len(found)} samples of the {name} has a normal: check the normal files")
        if len(measured) and (away := (measured[:, 2] < 0).mean()) > _AWAY_AT_MOST:
            raise InputError(
                f"{away:.0%} of the normals of the {name} point away from the camera, but z must point toward it: try "
                "the other value of --data.axes, opengl or opencv"
            )

    def empty_targets(self, images: int, height: int, width: int) -> dict[str, Tensor]:
        return {_TARGET: torch.empty(images, 3, height, width)}

    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """1 - cosine of the angle, and L1, over measured pixels.

        Args:
            raw: unit vectors (B, 3, h, w)
            auxiliary: not used
            batch: "normals" (B, 3, H, W), 0 where there is no surface
        """
        target = batch[_TARGET]
        predicted, measured = _at_size(raw, target.shape[-2:]), _measured(target)
        count = measured.sum().clamp_min(1)
        losses = {"cosine": (measured * (1 - (predicted * target).sum(dim=1))).sum() / count}
        if self.l1_weight:
            losses["l1"] = self.l1_weight * (measured * (predicted - target).abs().mean(dim=1)).sum() / count
        return losses

    def encode(self, batch: Batch) -> Tensor:
        """Normals (B, 3, H, W), unchanged."""
        return batch[_TARGET]

    def disagreement(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """One minus the cosine between normals, clamped to [0, 1]: per pixel, and averaged per image."""
        per_pixel = (1 - F.cosine_similarity(earlier, later, dim=1)).clamp(0, 1)
        return per_pixel, per_pixel.mean(dim=(1, 2))

    def decode(self, raw: Tensor) -> Tensor:
        """Raw output (B, 3, H, W) to unit vectors."""
        return F.normalize(raw, dim=1)

    def metric(self, **metric_kwargs: Any) -> AngleScores:
        return AngleScores()

    def score(self, metric: AngleScores, raw: Tensor, batch: Batch) -> None:
        target = batch[_TARGET]
        metric.update(_at_size(raw, target.shape[-2:]), target)

    def constant_output(self, batches: Iterable[Batch]) -> Tensor:
        """(1, 3, H, W): the mean normal at each position."""
        total = torch.stack([batch[_TARGET].sum(dim=0, keepdim=True) for batch in batches]).sum(dim=0)
        overall = total.sum(dim=(2, 3), keepdim=True)
        return F.normalize(torch.where(total.any(dim=1, keepdim=True), total, overall), dim=1)

    def prompt_responses(self, prompts: int) -> DirectionResponses:
        return DirectionResponses(prompts, list(DIRECTIONS))

    def amount_of(self, place: int, sample: Sample) -> float:
        normals = torch.from_numpy(sample.dense[_TARGET].values).permute(2, 0, 1)
        return float((_facing(normals[None]) == place).sum())

    def draw_target(self, sample: Sample) -> ImageArray:
        return color_normals(sample.dense[_TARGET].values)

    def legend_entries(self, shown: Any) -> set[int]:
        return set(range(len(DIRECTIONS)))

    def legend(self, entries: Iterable[int], width: int) -> ImageArray:
        return normals_legend(width)

    def export_output(self, size: tuple[int, int]) -> dict[str, Any]:
        meaning = "Unit normals of surfaces, on axis 1: x to the right, y up, z toward the camera."
        return {"name": _TARGET, "shape": ["batch", 3, *(side // 8 * 8 for side in size)], "meaning": meaning}

    def assemble(self, image: ImageArray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> NormalsPrediction:
        ((_, raw),) = outputs
        normals = np.empty(image.shape, np.float32)
        for axis, vectors in enumerate(raw.float()):
            for rows, band in enlarged_bands(vectors, (image.shape[0], image.shape[1])):
                normals[rows, :, axis] = band.cpu().numpy()
        return _prediction(normals, image)

    def assemble_rows(self, image: ImageArray, rows: Iterable[tuple[int, Tensor]]) -> NormalsPrediction:
        normals = np.zeros(image.shape, np.float32)
        for first, some in rows:
            normals[first : first + some.shape[1]] = some.permute(1, 2, 0).cpu().numpy()
        return _prediction(normals, image)


def _prediction(vectors: NDArray[np.float32], image: ImageArray) -> NormalsPrediction:
    vectors /= np.maximum(np.sqrt(np.square(vectors).sum(axis=2, keepdims=True)), 1e-6)
    return NormalsPrediction(normals=vectors, image=image)


def _at_size(raw: Tensor, size: Sequence[int]) -> Tensor:
    """(B, 3, h, w) -> unit vectors (B, 3, H, W)."""
    return F.normalize(at_size(raw, size), dim=1)


def _measured(normals: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, H, W) bool, True where there is a surface."""
    return normals.any(dim=1)
