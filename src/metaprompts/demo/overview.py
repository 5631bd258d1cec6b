"""What the three models see in a few pictures, at one look."""

from collections.abc import Mapping, Sequence

import numpy as np

from metaprompts.data.sample import Sample
from metaprompts.demo.galleries import SCALE, enlarge
from metaprompts.demo.report import Picture
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.predictions import Prediction
from metaprompts.visualize.sheets import contact_sheet

_PICTURES = 4


def overview(models: Mapping[str, MetaPromptModel], people: Sequence[Sample]) -> Picture:
    """Pictures side by side; below each what every model predicts.

    Args:
        models: by the name of their task, all three
        people: samples of the pose task; the first pictures are shown, with all the people known in them

    Returns:
        (sheet height, sheet width, 3)
    """
    by_picture: dict[str, list[Sample]] = {}
    for sample in people:
        by_picture.setdefault(sample.path, []).append(sample)
    columns = [_column(models, samples) for samples in list(by_picture.values())[:_PICTURES]]
    names = ["image", *models]
    captions = [[name] + [""] * (len(columns) - 1) for name in names]
    return contact_sheet(list(zip(*columns, strict=True)), captions, cell=columns[0][0].shape[:2])


def _column(models: Mapping[str, MetaPromptModel], samples: Sequence[Sample]) -> list[Picture]:
    # Enlarged first, as results have the picture's own size: lines stay thin.
    picture = enlarge(samples[0].image)
    boxes = [(SCALE * sample.person.box_xywh).tolist() for sample in samples if sample.person is not None]
    seen = [model.predict(picture, boxes if name == "pose" else None) for name, model in models.items()]
    return [picture, *map(_drawn, seen)]


def _drawn(prediction: Prediction) -> Picture:
    return np.asarray(prediction.show(legend=False))
