"""A contact sheet with the predictions of all models for a few images."""

from collections.abc import Mapping, Sequence

import numpy as np

from metaprompts.data.sample import Sample
from metaprompts.demo.galleries import SCALE, enlarge
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.predictions import Prediction
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import ImageArray

_IMAGES = 4


def overview(models: Mapping[str, MetaPromptModel], people: Sequence[Sample]) -> ImageArray:
    """Images side by side, with the prediction of every model below each image.

    Args:
        models: name of the task -> model
        people: samples of the pose task; the first images are shown, with all their annotated people

    Returns:
        (sheet height, sheet width, 3)
    """
    by_image: dict[str, list[Sample]] = {}
    for sample in people:
        by_image.setdefault(sample.path, []).append(sample)
    columns = [_column(models, samples) for samples in list(by_image.values())[:_IMAGES]]
    names = ["image", *models]
    captions = [[name] + [""] * (len(columns) - 1) for name in names]
    return contact_sheet(list(zip(*columns, strict=True)), captions, cell=columns[0][0].shape[:2])


def _column(models: Mapping[str, MetaPromptModel], samples: Sequence[Sample]) -> list[ImageArray]:
    # Enlarge before predicting: drawings then have the size of the enlarged image, and their lines stay thin.
    image = enlarge(samples[0].image)
    boxes = [(SCALE * sample.person.box_xywh).tolist() for sample in samples if sample.person is not None]
    seen = [model.predict(image, boxes if model.task.reads_boxes else None) for model in models.values()]
    return [image, *map(_drawn, seen)]


def _drawn(prediction: Prediction) -> ImageArray:
    return np.asarray(prediction.show(legend=False))
