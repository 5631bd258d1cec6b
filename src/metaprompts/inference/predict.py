"""Predict images in batches of equally sized views, or one image in overlapping windows, in little memory."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from metaprompts.data.io.images import as_image
from metaprompts.errors import InputError
from metaprompts.tasks.preprocess import ModelInput, at_size
from metaprompts.tasks.protocol import AdaptivePredictor, ImagePredictor
from metaprompts.tasks.sliding_window import check_no_gaps, slide_rows
from metaprompts.utils.batches import read_batches
from metaprompts.utils.torch_modules import eval_mode
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from metaprompts.tasks.predictions import Prediction

# The UNet's input is an eighth of the image, and is halved three times.
_SMALLEST = 64

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
    encoded: dict[str, Tensor] = {}
    for group in read_batches((_row(model, item) for item in images), batch_size):
        # Only the encodings of the last group are kept: often all images have the same caption.
        encoded = _encoded(model, [caption for *_, caption in group], encoded)
        contexts = [encoded[caption] if isinstance(caption, str) else caption for *_, caption in group]
        # Lazily, because an image may have very many views.
        seen = (
            _Seen(number, view, context)
            for number, ((image, boxes, _), context) in enumerate(zip(group, contexts, strict=True))
            for view in model.task.model_inputs(image, model.config.working_size, boxes)
        )
        of_images = groupby(_outputs(model, seen, views_at_once or (lambda size: batch_size)), attrgetter("image"))
        ready = next(of_images, None)
        for number, (image, *_) in enumerate(group):
            # An image without boxes has no views.
            if ready is None or ready[0] != number:
                yield model.task.assemble(image, ())
                continue
            first = next(ready[1])
            outputs = (
                (each.view, each.raw if raw_filter is None else raw_filter(image, each.raw))
                for each in chain([first], ready[1])
            )
            yield _with_agreement(model.task.assemble(image, outputs), first.agreement)
            ready = next(of_images, None)


def _with_agreement(prediction: "Prediction", agreement: Tensor | None) -> "Prediction":
    if agreement is None or not hasattr(prediction, "agreement"):
        return prediction
    return replace(prediction, agreement=agreement.cpu().numpy())  # type: ignore[type-var]


def _row(model: ImagePredictor, item: Any) -> tuple[ImageArray, Any, Any]:
    source, boxes, caption = (*item, None, None)[:3] if isinstance(item, tuple) else (item, None, None)
    image = as_image(source)
    if callable(boxes):
        if not model.task.reads_boxes:
            raise InputError(f"a detector applies only to pose, but the model predicts {model.task.name}: omit it")
        boxes = boxes(image)
    return image, boxes, caption


class _Seen(NamedTuple):
    """A view, the index of its image, and its context (N, D), if there is one."""

    image: int
    view: ModelInput
    context: Tensor | None


class _Output(NamedTuple):
    image: int
    view: ModelInput
    raw: Tensor
    agreement: Tensor | None


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
    waiting: defaultdict[tuple[int, int, bool], list[tuple[int, _Seen]]] = defaultdict(list)
    limit = cache(views_at_once)
    done: dict[int, _Output] = {}
    following = 0
    for place, each in enumerate(seen):
        _, height, width = each.view.image.shape
        alike = waiting[height, width, each.context is None]
        alike.append((place, each))
        if len(alike) >= limit((height, width)):
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


@dataclass(frozen=True)
class Windows:
    """A grid of windows; the last windows are shifted back to the image's edge.

    Attributes:
        size: (height, width) of each window in pixels; limited to the image's size
        stride: (vertical, horizontal) step, in pixels, at most the size

    Raises:
        InputError: the windows are too small, or leave gaps
    """

    size: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.size) < _SMALLEST:
            height, width = self.size
            raise InputError(f"windows of {height}x{width} requested; expected at least {_SMALLEST}x{_SMALLEST}")
        check_no_gaps(self.size, self.stride)

    @classmethod
    def of(cls, size: tuple[int, int] | None, stride: tuple[int, int] | None = None) -> Self:
        """Windows of a size, overlapping by half by default.

        Raises:
            InputError: only a stride is given, or the windows are too small or leave gaps
        """
        if size is None:
            raise InputError("got a stride without a window: give both or neither")
        return cls(size, stride or (size[0] // 2, size[1] // 2))

    def held_bytes(self, height: int, width: int, outputs: int) -> int:
        """Memory per image, in addition to the memory for one window.

        Args:
            height: height of the image, in pixels
            width: width of the image, in pixels
            outputs: channels of the raw output
        """
        tall, wide = min(self.size[0], height), min(self.size[1], width)
        # In single precision: sums and counts of unfinished rows, a window's output, and depth, or confidence and
        # labels. In bytes: the image.
        rows, window = (outputs + 1) * tall * width, outputs * tall * wide
        return 4 * (rows + window + 2 * height * width) + 3 * height * width

    def within(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image's windows at the model's input."""
        inside = min(self.size[0], height), min(self.size[1], width)
        return max(inside[0], _SMALLEST), max(inside[1], _SMALLEST)


@torch.inference_mode()
def predict_in_windows(
    model: ImagePredictor,
    image: ImageArray,
    windows: Windows,
    boxes: Any = None,
    caption: str | Tensor | None = None,
    batch: int = 1,
    raw_filter: RawFilter | None = None,
) -> "Prediction":
    """Predict an image without resizing it, and average overlapping windows: logits, or depth in meters.

    Metric depth depends on the image scale used in training: use windows only for images of about that scale.

    Args:
        model: a model for segmentation or depth
        image: uint8 RGB (H, W, 3)
        windows: the grid of windows
        boxes: must be None; windows do not support pose
        caption: caption of the whole image, a text or encoded (N, D), if the prompts are captions
        batch: windows per forward pass
        raw_filter: changes the raw output of the whole image, which is then held as a whole

    Returns:
        the prediction at the image's own size

    Raises:
        InputError: the task is not predicted in windows, or a caption is missing or unexpected
    """
    if boxes is not None:
        raise InputError("got windows as well as boxes of people: give boxes for pose, windows for other tasks")
    context = context_of(model, caption)

    def predict(crops: Tensor) -> Tensor:
        of_crops = None if context is None else context.expand(len(crops), -1, -1)
        at_least_smallest = [max(side, _SMALLEST) for side in crops.shape[-2:]]
        return forward_raw(model, at_size(crops.float().div_(255), at_least_smallest), of_crops)

    with eval_mode(model):
        # The image stays in bytes and only crops become floats, because the image may be very large.
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        rows = slide_rows(predict, tensor, window=windows.size, stride=windows.stride, batch=batch)
        if raw_filter is not None:
            rows = iter([(0, raw_filter(image, torch.cat([some for _, some in rows], dim=1)))])
        return model.task.assemble_rows(image, rows)
