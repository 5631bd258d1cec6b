"""Calibrate w8a8 on the images that ``metaprompts predict`` predicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaprompts.cli.captions import Captions
    from metaprompts.cli.people import People
    from metaprompts.engines.quantization.calibration import Calibration


def calibration_of(
    paths: Sequence[Path],
    people: "People",
    captions: "Captions | None",
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
        caption = None
        if captions is not None and model.config.prompts.kind == "caption":
            caption = captions.of(path, image)
        return image, boxes, caption

    chosen = spread(readable(paths), samples)
    if not chosen:
        return None
    source = counted(len(chosen), "image") + " to predict"
    return of_files(chosen, source, samples, row, options, skips_bad=True)
