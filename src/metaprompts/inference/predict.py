"""Predict images in batches of equally sized views, holding at most one batch in memory."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metaprompts.data.io.images import as_image
from metaprompts.errors import InputError
from metaprompts.tasks.predictor import AdaptivePredictor, ImagePredictor
from metaprompts.tasks.preprocess import ModelInput
from metaprompts.utils.torch_modules import eval_mode
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from metaprompts.tasks.predictions import Prediction

RawFilter = Callable[[ImageArray, Tensor], Tensor]
"""An image and its raw output (...) -> a raw output of the same shape; called in the order of the images."""


def predict_many(
    model: ImagePredictor,
    images: Iterable[Any],
    batch_size: int,
    views_at_once: Callable[[tuple[int, int]], int] | None = None,
    raw_filter: RawFilter | None = None,
) -> Iterator["Prediction"]:
    """Predict images in order; at most ``batch_size`` images are held at a time.

    Args:
        model: set to evaluation mode during prediction, and restored afterwards
        images: paths, PIL images or uint8 arrays (H, W, 3); or tuples of such an image, its boxes (or a detector, or
            None) and, if the prompts are captions, its caption; see `MetaPromptModel.predict`
        batch_size: maximum number of images held, and of views per pass
        views_at_once: (height, width) of views -> number of views per pass; by default ``batch_size``
        raw_filter: changes the raw output of each view
    """
    remaining = (_row(model, item) for item in images)
    encoded: dict[str, Tensor] = {}
    while group := list(islice(remaining, batch_size)):
        # Only the encodings of the last group are kept: often all images have the same caption.
        encoded = _encoded(model, [caption for *_, caption in group], encoded)
        contexts = [encoded[caption] if isinstance(caption, str) else caption for *_, caption in group]
        of_images = groupby(
            _outputs(model, _seen(model, group, contexts), views_at_once or (lambda size: batch_size)),
            key=attrgetter("image"),
        )
        ready = next(of_images, None)
        for number, (image, *_) in enumerate(group):
            # An image without boxes has no views.
            if ready is None or ready[0] != number:
                yield model.task.assemble(image, ())
                continue
            filtered = raw_filter or _unchanged
            first = next(ready[1])
            outputs = ((each.view, filtered(image, each.raw)) for each in chain([first], ready[1]))
            yield _with_agreement(model.task.assemble(image, outputs), first.agreement)
            ready = next(of_images, None)


def _with_agreement(prediction: "Prediction", agreement: Tensor | None) -> "Prediction":
    if agreement is None or not hasattr(prediction, "agreement"):
        return prediction
    return replace(prediction, agreement=agreement.cpu().numpy())  # type: ignore[type-var]


def _unchanged(image: ImageArray, raw: Tensor) -> Tensor:
    return raw


def _row(model: ImagePredictor, item: Any) -> tuple[ImageArray, Any, Any]:
    source, boxes, caption = (*item, None, None)[:3] if isinstance(item, tuple) else (item, None, None)
    image = as_image(source)
    if callable(boxes):
        if not model.task.reads_boxes:
            raise InputError(f"a detector is for pose, but the model predicts {model.task.name}: leave it out")
        boxes = boxes(image)
    return image, boxes, caption


@dataclass(frozen=True, eq=False)
class _Seen:
    """A view, the index of its image, and its context (N, D), if there is one."""

    image: int
    view: ModelInput
    context: Tensor | None


@dataclass(frozen=True, eq=False)
class _Output:
    image: int
    view: ModelInput
    raw: Tensor
    agreement: Tensor | None


def _seen(
    model: ImagePredictor, group: Sequence[tuple[ImageArray, Any, Any]], contexts: Sequence[Tensor | None]
) -> Iterator[_Seen]:
    """Yield the views of all images lazily, because an image may have very many."""
    for number, ((image, boxes, _), context) in enumerate(zip(group, contexts, strict=True)):
        for view in model.task.model_inputs(image, model.config.working_size, boxes):
            yield _Seen(number, view, context)


def context_of(model: ImagePredictor, caption: str | Tensor | None) -> Tensor | None:
    """A caption or its encoding (N, D) as the context of one image (1, N, D), on the model's device."""
    if caption is None:
        return None
    return model.encode_captions([caption]) if isinstance(caption, str) else caption[None].to(model.device)


def _encoded(model: ImagePredictor, captions: Sequence[Any], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tokens (N, D) of captions given as texts."""
    texts = list(dict.fromkeys(caption for caption in captions if isinstance(caption, str)))
    new = [text for text in texts if text not in known]
    fresh = dict(zip(new, model.encode_captions(new) if new else (), strict=True))
    return {text: fresh[text] if text in fresh else known[text] for text in texts}


def _outputs(
    model: ImagePredictor, seen: Iterable[_Seen], views_at_once: Callable[[tuple[int, int]], int]
) -> Iterator[_Output]:
    """Yield the raw outputs of views in order, running a pass as soon as enough views of one size are collected."""
    waiting: defaultdict[tuple[tuple[int, ...], bool], list[tuple[int, _Seen]]] = defaultdict(list)
    limits: dict[tuple[int, int], int] = {}
    done: dict[int, _Output] = {}
    following = 0
    for place, each in enumerate(seen):
        _, height, width = each.view.image.shape
        if (height, width) not in limits:
            limits[height, width] = views_at_once((height, width))
        alike = waiting[tuple(each.view.image.shape), each.context is None]
        alike.append((place, each))
        if len(alike) >= limits[height, width]:
            done.update(_pass(model, alike))
            alike.clear()
        while following in done:
            yield done.pop(following)
            following += 1
    for alike in waiting.values():
        done.update(_pass(model, alike))
    for place in sorted(done):
        yield done.pop(place)


@torch.inference_mode()
def _pass(model: ImagePredictor, seen: Sequence[tuple[int, _Seen]]) -> dict[int, _Output]:
    """The outputs, by index, of equally sized views; either all views have a context, or none has."""
    if not seen:
        return {}
    batch = torch.stack([each.view.image for _, each in seen])
    contexts = [each.context for _, each in seen if each.context is not None]
    context = torch.stack(contexts) if contexts else None
    with eval_mode(model):
        agreements: Iterable[Tensor | None] = repeat(None, len(batch))
        # A model that chooses the number of steps also knows how well they agree.
        if isinstance(model, AdaptivePredictor) and model.tolerance is not None:
            found = model.adaptive_output(batch.to(model.device), None if context is None else context.to(model.device))
            raws, agreements = found.raw, found.agreement
        else:
            raws = forward_raw(model, batch, context)
    return {
        place: _Output(each.image, each.view, raw, agreement)
        for (place, each), raw, agreement in zip(seen, raws, agreements, strict=True)
    }


def forward_raw(model: ImagePredictor, images: Tensor, context: Tensor | None) -> Tensor:
    """The raw output in single precision, for a model of any precision and images on any device.

    Args:
        model: the model, in evaluation mode
        images: (B, 3, H, W) in [0, 1]
        context: (B, N, D), if the prompts are captions; else None
    """
    images = images.to(model.device, model.dtype)
    raw: Tensor = model(images, None if context is None else context.to(model.device, model.dtype))
    return raw.float()
