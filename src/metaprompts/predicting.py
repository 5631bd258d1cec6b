"""Pictures in, predictions out: views of one size are gathered into batches."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metaprompts.tasks.base import Picture, View

if TYPE_CHECKING:
    from metaprompts.model import MetaPromptModel
    from metaprompts.predictions import Prediction


def predict_many(
    model: "MetaPromptModel",
    pictures: Iterable[tuple[Picture, Any] | tuple[Picture, Any, Any]],
    batch_size: int,
    views_at_once: Callable[[tuple[int, int]], int] | None = None,
) -> Iterator["Prediction"]:
    """Predict pictures in order; at most ``batch_size`` pictures are held at a time.

    Args:
        model: is put into evaluation mode while it looks, and back afterwards
        pictures: (uint8 array (H, W, 3), boxes or None[, caption or None]) for each, see `MetaPromptModel.predict`
        batch_size: largest number of pictures held, and of views in one pass
        views_at_once: (height, width) of views -> how many of them in one pass; by default ``batch_size``
    """
    remaining = ((*row, None)[:3] for row in pictures)
    encoded: dict[str, Tensor] = {}
    while group := list(islice(remaining, batch_size)):
        # Only those of the last group are kept: often all pictures have the same caption.
        encoded = _encoded(model, [caption for *_, caption in group], encoded)
        contexts = [encoded[caption] if isinstance(caption, str) else caption for *_, caption in group]
        views = [model.task.views(picture, model.config.working_size, boxes) for picture, boxes, _ in group]
        seen = [(view, context) for of_picture, context in zip(views, contexts, strict=True) for view in of_picture]
        raws = iter(_run(model, seen, views_at_once or (lambda size: batch_size)))
        for (picture, *_), of_picture in zip(group, views, strict=True):
            yield model.task.assemble(picture, of_picture, list(islice(raws, len(of_picture))))


def context_of(model: "MetaPromptModel", caption: str | Tensor | None) -> Tensor | None:
    """A caption, or what was made of it (N, D), as a context of one picture (1, N, D) where the model is."""
    if caption is None:
        return None
    return model.encode_captions([caption]) if isinstance(caption, str) else caption[None].to(model.device)


def _encoded(model: "MetaPromptModel", captions: Sequence[Any], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tokens (N, D) of those captions that are texts."""
    texts = list(dict.fromkeys(caption for caption in captions if isinstance(caption, str)))
    new = [text for text in texts if text not in known]
    fresh = dict(zip(new, model.encode_captions(new) if new else (), strict=True))
    return {text: fresh[text] if text in fresh else known[text] for text in texts}


@torch.inference_mode()
def _run(
    model: "MetaPromptModel",
    seen: Sequence[tuple[View, Tensor | None]],
    views_at_once: Callable[[tuple[int, int]], int],
) -> list[Tensor]:
    """The raw output of each view, looked at with its context (N, D), if it has one."""
    alike: defaultdict[tuple[tuple[int, ...], bool], list[int]] = defaultdict(list)
    for index, (view, context) in enumerate(seen):
        alike[tuple(view.image.shape), context is None].append(index)
    raws: dict[int, Tensor] = {}
    with evaluating(model):
        for ((_, height, width), _), indices in alike.items():
            batch_size = views_at_once((height, width))
            for start in range(0, len(indices), batch_size):
                part = indices[start : start + batch_size]
                batch = torch.stack([seen[index][0].image for index in part])
                contexts = [context for _, context in (seen[index] for index in part) if context is not None]
                raws.update(zip(part, look(model, batch, torch.stack(contexts) if contexts else None), strict=True))
    return [raws[index] for index in range(len(seen))]


def look(model: "MetaPromptModel", images: Tensor, context: Tensor | None) -> Tensor:
    """The raw output in single precision, whatever the model's own, of pictures from anywhere.

    Args:
        model: is in evaluation mode
        images: (B, 3, H, W) in [0, 1]
        context: (B, N, D), where the prompts are captions; else None
    """
    images = images.to(model.device, model.dtype)
    raw: Tensor = model(images, None if context is None else context.to(model.device, model.dtype))
    return raw.float()


@contextmanager
def evaluating(model: "MetaPromptModel") -> Iterator[None]:
    """Put a model into evaluation mode, and back afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
