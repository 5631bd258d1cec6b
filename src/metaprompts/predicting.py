"""Pictures in, predictions out: views of one size are gathered into batches."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metaprompts.tasks.base import Picture, View

if TYPE_CHECKING:
    from metaprompts.model import MetaPromptModel
    from metaprompts.predictions import Prediction


def predict_many(
    model: "MetaPromptModel", pictures: Iterable[tuple[Picture, Any]], batch_size: int
) -> Iterator["Prediction"]:
    """Predict pictures in order; at most ``batch_size`` pictures are held at a time.

    Args:
        model: is put into evaluation mode while it looks, and back afterwards
        pictures: (uint8 array (H, W, 3), boxes or None) for each
        batch_size: largest number of pictures held, and of views in one pass
    """
    remaining = iter(pictures)
    while group := list(islice(remaining, batch_size)):
        views = [model.task.views(picture, model.config.working_size, boxes) for picture, boxes in group]
        raws = iter(_run(model, [view for of_picture in views for view in of_picture], batch_size))
        for (picture, _), of_picture in zip(group, views, strict=True):
            yield model.task.assemble(picture, of_picture, list(islice(raws, len(of_picture))))


@torch.inference_mode()
def _run(model: "MetaPromptModel", views: Sequence[View], batch_size: int) -> list[Tensor]:
    """The raw output of each view."""
    by_size = defaultdict(list)
    for index, view in enumerate(views):
        by_size[view.image.shape].append(index)
    raws: dict[int, Tensor] = {}
    was_training = model.training
    model.eval()
    try:
        for indices in by_size.values():
            for start in range(0, len(indices), batch_size):
                part = indices[start : start + batch_size]
                batch = torch.stack([views[index].image for index in part]).to(model.device)
                raws.update(zip(part, model(batch), strict=True))
    finally:
        model.train(was_training)
    return [raws[index] for index in range(len(views))]
