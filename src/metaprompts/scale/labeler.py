"""Label batches of images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaprompts.engines.loading import load
from metaprompts.engines.quantization.calibration import SAMPLES
from metaprompts.errors import InputError, one_line
from metaprompts.inference.predict import RawFilter, predict_many
from metaprompts.models.detectors import load_detector
from metaprompts.models.loading import model_folder
from metaprompts.models.pretrained import CONFIG_FILE, WEIGHTS_FILE
from metaprompts.scale.images import Content
from metaprompts.scale.label import COLUMNS, Label, depth_scale, labeled
from metaprompts.tasks.predictions import Prediction
from metaprompts.tasks.pseudo_labels import Confidence, class_margin, needs_mirrored, pixel_confidence
from metaprompts.tasks.segmentation import Segmentation
from metaprompts.utils.batches import read_batches
from metaprompts.utils.fingerprint import file_fingerprint
from metaprompts.visualize.text import ImageArray

_Found = tuple[Prediction, Confidence | None]


class Labeler:
    """Labels batches of images: a callable for Ray Data, Spark or your own loop.

    Args:
        model: as for `metaprompts.load`: a folder, a hub id, or an embedded model
        engine: engine that executes the model, as for `metaprompts.load`
        precision: precision of an engine
        calibration: images on which precision w8a8 is calibrated, as for `metaprompts.load`
        calibration_samples: maximum number of calibration images
        device: compute device; by default the GPU if there is one
        batch_size: images per forward pass
        caption: caption for all images, if the model reads captions
        detector: for pose, finds the people, see `metaprompts.load_detector`; if None, each image is assumed to show
            one whole person
        confidence: whether to compute the confidence of labels; for depth and normals, this takes a second prediction

    Attributes:
        fingerprint: hexadecimal digits that identify the model's weights and configuration
        depth_scale: number of units per meter in depth labels

    Raises:
        InputError: the model or the detector cannot be loaded, or an option does not apply to the model
    """

    def __init__(
        self,
        model: str | Path,
        *,
        engine: str = "plain",
        precision: str = "fp32",
        calibration: Any = None,
        calibration_samples: int = SAMPLES,
        device: str | torch.device | None = None,
        batch_size: int = 8,
        caption: str | None = None,
        detector: str | Path | None = None,
        confidence: bool = True,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; expected 1 or more")
        self.fingerprint = model_fingerprint(model)
        images: dict[str, Any] = {"calibration": calibration, "calibration_samples": calibration_samples}
        self.model: Any = load(model, device, engine=engine, precision=precision, **images)
        self.depth_scale = depth_scale(self.model.task)
        if detector is not None and not self.model.task.reads_boxes:
            raise InputError(f"a detector applies only to pose, but the model predicts {self.model.task.name}: omit it")
        self._boxes = None if detector is None else load_detector(detector, device)
        self._batch_size, self._caption, self._confidence = batch_size, caption, confidence

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Label a batch.

        Args:
            batch: a mapping or a data frame with the column "path", "bytes" (content of image files), or both, in which
                case paths are only names

        Returns:
            the columns of parquet results, with one row for each image; an unreadable image has only an "error"

        Raises:
            InputError: the batch has neither column
        """
        rows = [label.row(self.fingerprint) for _, label, _ in self.labels(_contents(batch))]
        return {name: [row[name] for row in rows] for name in COLUMNS}

    def labels(self, contents: Iterable[Content]) -> Iterator[tuple[Content, Label, Prediction | None]]:
        """Label images in order.

        Args:
            contents: the images, read lazily

        Yields:
            the image, its label, and the prediction from which the label was made, or None if there was an error
        """
        for group in read_batches(contents, self._batch_size):
            images = [_pixels(each) for each in group]
            good = [image for image in images if isinstance(image, np.ndarray)]
            predictions = iter(self._predictions(good))
            for content, image in zip(group, images, strict=True):
                found = image if isinstance(image, InputError) else next(predictions)
                if isinstance(found, InputError):
                    yield content, Label(path=content.name, error=one_line(found)), None
                else:
                    yield content, labeled(content.name, *found, self.depth_scale), found[0]

    def _predictions(self, images: Sequence[ImageArray]) -> list[_Found | InputError]:
        """The prediction and the pixel confidence of each image, or the error if it cannot be predicted."""
        if not images:
            return []
        try:
            return list(self._predicted(images))
        except InputError as error:
            if len(images) == 1:
                return [error]
        # One of the images caused the error: predict them one by one.
        return [found for image in images for found in self._predictions([image])]

    def _predicted(self, images: Sequence[ImageArray]) -> Iterator[_Found]:
        margins: list[Confidence | None] = []

        def keep_margin(image: ImageArray, raw: torch.Tensor) -> torch.Tensor:
            margins.append(class_margin(raw, image.shape[:2]))
            return raw

        has_margin = self._confidence and isinstance(self.model.task, Segmentation)
        predictions = list(self._predict(images, keep_margin if has_margin else None))
        others: Sequence[Prediction | None] = [None] * len(images)
        if self._confidence and needs_mirrored(predictions[0]):
            others = list(self._predict([np.ascontiguousarray(image[:, ::-1]) for image in images]))
        for prediction, other, margin in zip(predictions, others, margins or [None] * len(images), strict=True):
            yield prediction, pixel_confidence(prediction, other, margin) if self._confidence else None

    def _predict(self, images: Sequence[ImageArray], raw_filter: RawFilter | None = None) -> Iterator[Prediction]:
        rows = [(image, self._boxes, self._caption) for image in images]
        return predict_many(self.model, rows, self._batch_size, raw_filter=raw_filter)


def model_fingerprint(model: str | Path) -> str:
    """A fingerprint of a model's weights and configuration, sixteen hexadecimal digits.

    Raises:
        InputError: the model does not exist
    """
    folder = model_folder(model)
    return file_fingerprint(folder / CONFIG_FILE, folder / WEIGHTS_FILE)


def _pixels(content: Content) -> ImageArray | InputError:
    try:
        return content.pixels()
    except InputError as error:
        return error


def _contents(batch: Mapping[str, Any]) -> Iterator[Content]:
    paths = [str(path) for path in batch["path"]] if "path" in batch else None
    if "bytes" in batch:
        for place, content in enumerate(batch["bytes"]):
            name = f"image {place}" if paths is None else paths[place]
            yield Content(name, bytes(content)) if content is not None else Content(name, error=f"{name} has no bytes")
    elif paths is not None:
        yield from map(Content, paths)
    else:
        raise InputError(f"a batch has the columns {', '.join(batch)}; expected path or bytes")
