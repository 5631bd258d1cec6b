"""Images on which the ranges of activations are measured."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaprompts.data.io.images import list_images, read_image
from metaprompts.engines.engine_model import EngineModel
from metaprompts.errors import InputError
from metaprompts.inference.predict import predict_many
from metaprompts.synthetic import generate_scene
from metaprompts.utils.fingerprint import file_fingerprint
from metaprompts.utils.wording import counted
from metaprompts.visualize.text import ImageArray

SAMPLES = 32
"""Default number of calibration samples."""

# Scenes that nothing is trained or scored on.
_SCENE_SEED, _SCENE_SIZE = 14_000_000, (288, 384)

Row = tuple[ImageArray, Any, Any]
"""An image, its boxes or None, and its caption or None."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Images on which the ranges of activations are measured.

    Attributes:
        source: description of the images, for example "32 images of photos"
        samples: maximum number of model inputs to use; an image may yield several, for example one per person
        fingerprint: text that identifies the images
        predict: predicts the images with a model
    """

    source: str
    samples: int
    fingerprint: str
    predict: Callable[[EngineModel], None]

    def to_dict(self) -> dict[str, object]:
        """The values on which a quantized network depends."""
        return {"samples": self.samples, "images": self.fingerprint}


def of_scenes(samples: int = SAMPLES) -> Calibration:
    """Generated scenes; pose sees the people in them."""

    def predict(model: EngineModel) -> None:
        reads = model.config.prompts.kind == "caption"
        for number in range(samples):
            scene = generate_scene(_SCENE_SEED + number, *_SCENE_SIZE)
            boxes = [person.box_xywh.tolist() for person in scene.people] or None
            row: Row = (scene.image, boxes if model.task.reads_boxes else None, scene.caption if reads else None)
            list(predict_many(model, [row], 1))

    source = counted(samples, "generated scene")
    return Calibration(source=source, samples=samples, fingerprint=f"scenes {_SCENE_SEED}", predict=predict)


def of_folder(folder: Path, samples: int = SAMPLES) -> Calibration:
    """Images of a folder, evenly spread over their sorted names; for pose, each is assumed to show one person.

    Raises:
        InputError: the folder has no images, or does not exist
    """
    if not folder.is_dir():
        raise InputError(f"--calibration is {folder}; expected a folder of images")
    # A folder without images is listed itself.
    paths = spread([path for path in list_images([str(folder)]) if not path.is_dir()], samples)
    if not paths:
        raise InputError(f"--calibration is {folder}, which has no images: pass another folder, or omit --calibration")
    source = f"{counted(len(paths), 'image')} of {folder}"
    return of_files(paths, source, samples, lambda _, path: (read_image(path), None, None))


def of_files(
    paths: Sequence[Path],
    source: str,
    samples: int,
    row: Callable[[EngineModel, Path], Row],
    more: object = None,
    *,
    skips_bad: bool = False,
) -> Calibration:
    """Image files.

    Args:
        paths: the files, all of which can be opened
        source: their description
        samples: maximum number of model inputs to use
        row: reads an image for a model
        more: other values that ``row`` depends on, besides the files; their text is part of the fingerprint
        skips_bad: skip images that cannot be decoded, which are reported elsewhere
    """

    def predict(model: EngineModel) -> None:
        for path in paths:
            with suppress(*[InputError] * skips_bad):
                list(predict_many(model, [row(model, path)], 1))

    digest = file_fingerprint(*paths) + ("" if more is None else f" {more}")
    return Calibration(source=source, samples=samples, fingerprint=digest, predict=predict)


def of_images(images: Sequence[Any], samples: int = SAMPLES, source: str | None = None) -> Calibration:
    """Paths, PIL images or arrays, or tuples as for `predict_many`; evenly spread.

    Args:
        images: the images
        samples: maximum number of model inputs to use
        source: description of the images; by default their number

    Raises:
        InputError: there are no images
    """
    chosen = spread(images, samples)
    if not chosen:
        raise InputError("calibration has no images: give at least one")
    digest = hashlib.sha256()
    for each in chosen:
        for part in each if isinstance(each, tuple) else (each,):
            digest.update(_bytes(part))

    def predict(model: EngineModel) -> None:
        list(predict_many(model, chosen, 1))

    source = source or counted(len(chosen), "given image")
    return Calibration(source=source, samples=samples, fingerprint=digest.hexdigest(), predict=predict)


def as_calibration(given: Any, samples: int = SAMPLES) -> Calibration | None:
    """A folder or images as given in Python; None and a `Calibration` are returned as they are.

    Raises:
        InputError: there are no images
    """
    if given is None or isinstance(given, Calibration):
        return given
    return of_folder(Path(given), samples) if isinstance(given, str | Path) else of_images(given, samples)


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """The options of commands.

    Attributes:
        folder: --calibration
        samples: --calibration-samples
    """

    folder: Path | None = None
    samples: int | None = None

    def check(self, precision: str) -> None:
        """Check that the options are used, before anything is loaded.

        Raises:
            InputError: calibration options are given for another precision, or the folder does not exist
        """
        for name, value in (("--calibration", self.folder), ("--calibration-samples", self.samples)):
            if value is not None and precision != "w8a8":
                raise InputError(f"{name} requires --precision w8a8: add --precision w8a8, or omit {name}")
        if self.folder is not None and not self.folder.is_dir():
            raise InputError(f"--calibration is {self.folder}; expected a folder of images")

    def calibration(
        self, precision: str, own: Callable[[int], Calibration | None] = lambda samples: None
    ) -> Calibration | None:
        """The calibration; None for other precisions.

        Args:
            precision: compute precision
            own: number of samples -> the calibration without --calibration; if it returns None, generated scenes

        Raises:
            InputError: see `check`; or the folder has no images
        """
        self.check(precision)
        if precision != "w8a8":
            return None
        samples = SAMPLES if self.samples is None else self.samples
        if self.folder is not None:
            return of_folder(self.folder, samples)
        return own(samples) or of_scenes(samples)


DEFAULT = CalibrationOptions()


def readable(paths: Sequence[Path]) -> list[Path]:
    """The files that can be opened."""
    found = []
    for path in paths:
        with suppress(OSError), path.open("rb"):
            found.append(path)
    return found


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of the items, evenly spread, in order."""
    return [items[place * len(items) // count] for place in range(count)] if len(items) > count else list(items)


def _bytes(part: Any) -> bytes:
    if isinstance(part, str | Path):
        return file_fingerprint(Path(part)).encode()
    if hasattr(part, "tobytes"):
        return bytes(part.tobytes())
    return repr(part).encode()
