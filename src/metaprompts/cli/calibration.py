"""Options for w8a8 calibration, including calibration on the images to predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from metaprompts.cli.options import option
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.cli.captions import CaptionOf
    from metaprompts.cli.people import People
    from metaprompts.engines.quantization.calibration import Calibration, CalibrationOptions

CALIBRATION = "8-bit activations"
"""Heading in the help of the options below."""


@dataclass(frozen=True, kw_only=True)
class WithCalibration:
    """Options of a command that quantizes activations; commands that have images of their own describe them."""

    calibration: Path | None = option(None, metavar="DIR", group=CALIBRATION)
    """w8a8: folder of images on which the ranges of activations are measured; by default generated scenes."""
    calibration_samples: Annotated[int, Range(1, 10**4)] | None = option(None, metavar="N", group=CALIBRATION)
    """w8a8: maximum number of calibration images; by default 32."""

    @property
    def calibration_options(self) -> "CalibrationOptions":
        """The options, as the engines read them."""
        from metaprompts.engines.quantization.calibration import CalibrationOptions

        return CalibrationOptions(folder=self.calibration, samples=self.calibration_samples)


def calibration_of(
    paths: Sequence[Path],
    people: "People",
    captions: "CaptionOf | None",
    white_level: int | None,
    options: object,
    samples: int,
) -> "Calibration | None":
    """Images to predict, evenly spread, with their people and captions; None if there are none.

    Args:
        paths: the images
        people: locates people
        captions: captions, if a model reads them
        white_level: see `read_image`
        options: options that people, captions and white level depend on; part of the fingerprint
        samples: maximum number of model inputs
    """
    from metaprompts.data.io.images import read_image
    from metaprompts.engines.quantization.calibration import of_files, readable, spread
    from metaprompts.utils.wording import counted

    def row(model: Any, path: Path) -> tuple[Any, Any, Any]:
        image = read_image(path, white_level=white_level)
        boxes = people.of(path, image) if model.task.reads_boxes else None
        caption_of = captions if model.config.prompts.kind == "caption" else None
        return image, boxes, None if caption_of is None else caption_of(path, image)

    chosen = spread(readable(paths), samples)
    if not chosen:
        return None
    source = counted(len(chosen), "image") + " to predict"
    return of_files(chosen, source, samples, row, options, skips_bad=True)
