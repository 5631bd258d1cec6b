"""Pictures in, predictions out: views of one size are gathered into batches."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.tasks.base import Picture, View

if TYPE_CHECKING:
    from metaprompts.model import MetaPromptModel
    from metaprompts.predictions import Prediction


def predict_many(
    model: "MetaPromptModel", pictures: Iterable[tuple[Picture, Any] | tuple[Picture, Any, Any]], batch_size: int
) -> Iterator["Prediction"]:
    """Predict pictures in order; at most ``batch_size`` pictures are held at a time.

    Args:
        model: is put into evaluation mode while it looks, and back afterwards
        pictures: (uint8 array (H, W, 3), boxes or None[, caption or None]) for each, see `MetaPromptModel.predict`
        batch_size: largest number of pictures held, and of views in one pass
    """
    remaining = iter(pictures)
    encoded: dict[str, Tensor] = {}
    while group := list(islice(remaining, batch_size)):
        captions = [row[2] if len(row) > 2 else None for row in group]
        # Only those of the last group are kept: often all pictures have the same caption.
        encoded = _encoded(model, captions, encoded)
        views = [model.task.views(row[0], model.config.working_size, row[1]) for row in group]
        contexts = [
            encoded[caption] if isinstance(caption, str) else caption
            for caption, of_picture in zip(captions, views, strict=True)
            for _ in of_picture
        ]
        raws = iter(_run(model, [view for of_picture in views for view in of_picture], contexts, batch_size))
        for row, of_picture in zip(group, views, strict=True):
            yield model.task.assemble(row[0], of_picture, list(islice(raws, len(of_picture))))


def context_of(model: "MetaPromptModel", caption: "str | Tensor | NDArray[np.float32] | None") -> Tensor | None:
    """A caption, or what was made of it, as a context of one picture (1, N, D) where the model is."""
    if caption is None:
        return None
    if isinstance(caption, str):
        return model.encode_captions([caption])
    return torch.as_tensor(caption)[None].to(model.device)


def _encoded(model: "MetaPromptModel", captions: Sequence[Any], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tokens (N, D) of those captions that are texts."""
    texts = list(dict.fromkeys(caption for caption in captions if isinstance(caption, str)))
    new = [text for text in texts if text not in known]
    fresh = dict(zip(new, model.encode_captions(new) if new else (), strict=True))
    return {text: fresh[text] if text in fresh else known[text] for text in texts}


@torch.inference_mode()
def _run(model: "MetaPromptModel", views: Sequence[View], contexts: Sequence[Any], batch_size: int) -> list[Tensor]:
    """The raw output of each view, seen with its context (N, D) or None."""
    by_size = defaultdict(list)
    for index, (view, context) in enumerate(zip(views, contexts, strict=True)):
        by_size[view.image.shape, context is None].append(index)
    raws: dict[int, Tensor] = {}
    was_training = model.training
    model.eval()
    try:
        for indices in by_size.values():
            for start in range(0, len(indices), batch_size):
                part = indices[start : start + batch_size]
                batch = torch.stack([views[index].image for index in part]).to(model.device)
                together = _stacked([contexts[index] for index in part], model.device)
                raws.update(zip(part, model(batch, together), strict=True))
    finally:
        model.train(was_training)
    return [raws[index] for index in range(len(views))]


def _stacked(contexts: Sequence[Any], device: torch.device) -> Tensor | None:
    if contexts[0] is None:
        return None
    return torch.stack([torch.as_tensor(context).to(device) for context in contexts])
