"""The evaluation data set: every image once, at each scale, with its name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from metaprompts.data.loading import Reader, ShapeBatches, places_by_shape, stack
from metaprompts.data.sample import SMALLEST_SIDE, Sample, SampleDataset
from metaprompts.data.transforms.geometric import ResizeImage, keep_aspect
from metaprompts.data.transforms.tensors import image_tensor, to_tensors
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.tasks.protocol import EvaluationProtocol, scaled_name
from metaprompts.utils.batches import batched


@dataclass(frozen=True, kw_only=True)
class EvalSample:
    """One sample, ready for prediction.

    Attributes:
        index: index of the sample in the split
        path: the image's file
        tensors: the output of `to_tensors`, "original_size" (2,) height and width before resizing, and "image@RATIO"
    """

    index: int
    path: str
    tensors: dict[str, Tensor]


class EvalDataset(Dataset[EvalSample]):
    """The samples of a split, cropped and scaled according to a protocol.

    Args:
        samples: the data set to read
        transforms: the transforms of the data section, except random ones
        protocol: the protocol, whose transforms are applied first and whose ratios are the scales
    """

    def __init__(self, samples: SampleDataset, transforms: Sequence[Transform], protocol: EvaluationProtocol) -> None:
        self.samples = samples
        self._first = protocol.transforms()
        self._transforms = {ratio: scaled_transforms(transforms, ratio) for ratio in {1.0, *protocol.ratios()}}

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> EvalSample:
        """Read one sample and create its views.

        Raises:
            InputError: a file is invalid
        """
        sample = self.sample(index)
        tensors = to_tensors(_applied(self._transforms[1.0], sample))
        tensors["original_size"] = torch.tensor(sample.image.shape[:2])
        for ratio, transforms in self._transforms.items():
            if ratio != 1:
                tensors[scaled_name(ratio)] = image_tensor(_applied(transforms, sample).image)
        return EvalSample(index=index, path=sample.path, tensors=tensors)

    def sample(self, index: int) -> Sample:
        """Read one sample at its own size, with the protocol's crop.

        Raises:
            InputError: a file is invalid
        """
        return _applied(self._first, self.samples[range(len(self))[index]])


def seen_batches(
    images: EvalDataset, *, batch_size: int, workers: int, share: tuple[int, int] = (0, 1)
) -> ShapeBatches:
    """A split in order, or a process's share of it, for `evaluate`.

    Args:
        images: the split
        batch_size: maximum number of images in a batch; all images of a batch have the same size
        workers: number of reader processes
        share: rank of the process, and the number of processes
    """
    groups = in_groups(len(images), batch_size)[share[0] :: share[1]]
    return ShapeBatches(Reader(images, _tensors_of, workers=workers, batch_sampler=groups))


def in_groups(samples: int, size: int) -> list[list[int]]:
    """The indices of all samples, in groups of ``size``; the last one may be smaller."""
    return list(map(list, batched(range(samples), size)))


def scaled_transforms(transforms: Sequence[Transform], ratio: float) -> list[Transform]:
    """The transforms for predicting an image at ``ratio`` times its size.

    The target size is scaled, so that the image is resized only once, from its original pixels. Resizing is bilinear,
    as in mmsegmentation.

    Args:
        transforms: the transforms at ratio 1
        ratio: above 0
    """
    if ratio == 1:
        return list(transforms)
    scaled = [ScaledResize(each, ratio) if isinstance(each, ResizeImage) else each for each in transforms]
    return scaled if any(isinstance(each, ScaledResize) for each in scaled) else [*scaled, ScaledResize(None, ratio)]


@dataclass(frozen=True)
class ScaledResize:
    """Resize only the image, to ``ratio`` times the output size of another transform.

    Args:
        plain: the transform at ratio 1; None for the image's own size
        ratio: above 0
    """

    plain: ResizeImage | None
    ratio: float

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Resize.

        Raises:
            InputError: the result would be too small
        """
        own = sample.image.shape[:2]
        expected = own if self.plain is None else (self.plain.height, self.plain.width)
        height, width = (max(1, int(side * self.ratio)) for side in expected)
        if self.plain is None or self.plain.keeps_aspect:
            height, width = keep_aspect(*own, longest=max(height, width), shortest=min(height, width))
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(
                f"test.scales {self.ratio:g} leaves {width}x{height} pixels of {sample.path}; expected at least "
                f"{SMALLEST_SIDE} per side: remove that scale"
            )
        image = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_LINEAR)
        return replace(sample, image=image)


def stacked(group: Sequence[EvalSample]) -> list[tuple[list[EvalSample], dict[str, Tensor]]]:
    """Batch images whose tensors have the same shapes; order within a batch is kept."""
    tensors = _tensors_of(group)
    return [
        ([group[place] for place in places], stack([tensors[place] for place in places]))
        for places in places_by_shape(tensors)
    ]


def _tensors_of(images: Sequence[EvalSample]) -> list[dict[str, Tensor]]:
    return [image.tensors for image in images]


def _applied(transforms: Sequence[Transform], sample: Sample) -> Sample:
    # No transform here is random; the generator is only required by the interface.
    generator = np.random.default_rng(0)
    for transform in transforms:
        sample = transform(sample, generator)
    return sample
