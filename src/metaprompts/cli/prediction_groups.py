"""Predict groups of images for ``metaprompts predict``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.errors import CaptionerError, InputError

if TYPE_CHECKING:
    from metaprompts.cli.captions import Captions
    from metaprompts.cli.inference_options import InferenceOptions
    from metaprompts.cli.people import People
    from metaprompts.tasks.predictions import PosePrediction, Prediction
    from metaprompts.visualize.text import ImageArray


def predict_group(
    inference: "InferenceOptions",
    paths: Sequence[Path],
    people: "People",
    captions: "Captions | None",
    white_level: int | None,
    failures: list[str],
) -> "list[tuple[Path, Prediction]]":
    """Predict the readable images; the others are added to ``failures``."""
    from metaprompts.data.io.images import read_image

    readable = []
    for path in paths:
        try:
            image = read_image(path, white_level=white_level, check_size=inference.check_size)
            found = people.of(path, image)
            readable.append((path, image, found, None if captions is None else captions.of(path, image)))
        except CaptionerError:
            raise
        except InputError as error:
            failures.append(str(error))
    try:
        return _predictions(inference, people, readable)
    except InputError as error:
        if len(readable) == 1:
            failures.append(f"{readable[0][0]}: {error}")
            return []
    # One image that does not fit in memory must not stop the others.
    pairs = []
    for row in readable:
        try:
            pairs += _predictions(inference, people, [row])
        except InputError as error:
            failures.append(f"{row[0]}: {error}")
    return pairs


def _predictions(
    inference: "InferenceOptions", people: "People", readable: "Sequence[tuple[Path, ImageArray, Any, Any]]"
) -> "list[tuple[Path, Prediction]]":
    """The predictions of each model for each image."""
    pairs = []
    for model in inference.models:
        reads = model.config.prompts.kind == "caption"
        inputs = [(image, found, caption if reads else None) for _, image, found, caption in readable]
        predictions = (people.distinct(model, each) for each in inference.predictions(model, inputs))
        pairs += [(path, prediction) for (path, *_), prediction in zip(readable, predictions, strict=True)]
    return pairs


def keep_pose(predicted: "list[tuple[Path, PosePrediction]]", path: Path, prediction: "Prediction") -> None:
    """Keep a pose for the file of all people, without its image."""
    from dataclasses import replace

    from metaprompts.tasks.predictions import PosePrediction

    if isinstance(prediction, PosePrediction):
        # Only the image's shape is still needed; a view of one pixel has that shape but takes no memory.
        import numpy as np

        blank = np.broadcast_to(np.zeros((), np.uint8), prediction.image.shape)
        predicted.append((path, replace(prediction, image=blank)))
