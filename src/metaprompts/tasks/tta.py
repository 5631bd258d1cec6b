"""Segmentation with test-time augmentation: softmax outputs of scales and mirror images, averaged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metaprompts.tasks.preprocess import at_size
from metaprompts.tasks.sliding_window import Predict, slide_logits

# Softmax works in bands of rows, so it needs only a band's memory.
_BAND = 64


def mean_probabilities(
    predict: Predict,
    images: Sequence[Tensor],
    size: tuple[int, int],
    *,
    windows: tuple[int, int] | None,
    flip: bool,
    batch: int = 1,
) -> Tensor:
    """Segment the same images at several scales, and mirrored, as mmsegmentation's ``aug_test``.

    The logits of each view are resized to the images' size and go through softmax; returns the mean over the views.
    Only that mean, the logits of one view, and their resized copy if sizes differ are held in memory.

    Args:
        predict: (N,3,h,w) -> (N,C,h,w) logits
        images: the images at each scale, (B,3,h_s,w_s) in [0,1]
        size: height and width of the result, the images' own
        windows: side and stride of square windows, pixels, see `slide_logits`; None for the whole image at once
        flip: also predict the mirrored images
        batch: windows predicted at once

    Returns:
        (B,C,H,W) float32 in [0,1]

    Raises:
        InputError: the window settings are invalid
    """
    total: Tensor | None = None
    for image in images:
        for mirrored in (False, True) if flip else (False,):
            logits = _logits(predict, image.flip(-1) if mirrored else image, windows, batch)
            logits = at_size(logits, size)
            if total is None:
                total = torch.zeros_like(logits)
            _add_softmax(total, logits, mirrored=mirrored)
            # Freed before the next view's logits are computed.
            del logits
    assert total is not None, "at least one scale"
    return total.div_(len(images) * (2 if flip else 1))


def _logits(predict: Predict, images: Tensor, windows: tuple[int, int] | None, batch: int) -> Tensor:
    if windows is None:
        return predict(images).float()
    side, stride = windows
    return slide_logits(predict, images, window=(side, side), stride=(stride, stride), batch=batch)


def _add_softmax(total: Tensor, logits: Tensor, *, mirrored: bool) -> None:
    for first in range(0, logits.shape[-2], _BAND):
        band = slice(first, first + _BAND)
        probabilities = logits[..., band, :].softmax(dim=1)
        total[..., band, :] += probabilities.flip(-1) if mirrored else probabilities
