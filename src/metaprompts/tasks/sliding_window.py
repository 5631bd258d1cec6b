"""Inference in windows, at several scales and mirrored: rows of squares for depth, grids for segmentation."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.tasks.preprocess import at_size
from metaprompts.utils.batches import batched

Predict = Callable[[Tensor], Tensor]

# Softmax works in bands of rows, so it needs only a band's memory.
_BAND = 64


def predict_windows(predict: Predict, images: Tensor, *, windows: int | None, flip: bool) -> Tensor:
    """Predict depth in square windows along the long side, and average windows and mirrored images in meters.

    Windows start every (long - short) // (windows - 1) pixels, as in the released code. If that division has a
    remainder, no window covers the last pixels (KITTI: 9 columns, for which the released code gives NaN); here, one
    more window at the edge fills in exactly those pixels. Windows are predicted one after the other.

    Args:
        predict: (B,3,S,S) -> (B,1,h,w) depth in meters; resized to S x S bilinearly if it is smaller
        images: (B,3,H,W) in [0,1]
        windows: number of windows, published: 2 for NYU Depth v2, 16 for KITTI; None for the whole image at once
        flip: average with the prediction of the mirrored image

    Returns:
        (B,1,H,W) meters, float32

    Raises:
        InputError: fewer than two windows
    """
    if windows is not None and windows < 2:
        raise InputError(f"got {windows} windows; expected at least 2, or none for the whole image at once")
    if windows is None:
        return _flip_averaged(predict, images, flip=flip)
    along = -1 if images.shape[-1] >= images.shape[-2] else -2
    long, short = images.shape[along], min(images.shape[-2:])
    total = images.new_zeros(len(images), 1, *images.shape[-2:], dtype=torch.float32)
    count = images.new_zeros(long, dtype=torch.float32)
    for start in window_starts(long, short, windows):
        depth_m = _flip_averaged(predict, images.narrow(along, start, short), flip=flip)
        total.narrow(along, start, short).add_(depth_m)
        count[start : start + short] += 1
    mean = total / count.clamp_min(1).view((-1, 1) if along == -2 else (-1,))
    return _fill_uncovered(predict, images, mean, count > 0, flip=flip, along=along)


def window_starts(long: int, short: int, windows: int) -> list[int]:
    """Start positions of the released code's square windows.

    Args:
        long: the image's long side in pixels
        short: the image's short side, which is the windows' side
        windows: number of windows, at least 2

    Returns:
        the windows' first pixels along the long side, unique, ascending
    """
    step = (long - short) // (windows - 1)
    return sorted({index * step for index in range(windows)})


def slide_logits(
    predict: Predict, images: Tensor, *, window: tuple[int, int], stride: tuple[int, int], batch: int = 1
) -> Tensor:
    """Segment in a grid of overlapping windows and average their logits, as mmsegmentation's ``slide_inference``.

    Windows that would extend beyond the image are shifted back to its edge; if the image is smaller than the window,
    the window shrinks to it. Only the sum over windows and ``batch`` crops are held in memory.

    Args:
        predict: (N,3,h,w) -> (N,C,h,w) logits
        images: (B,3,H,W) in [0,1]
        window: height and width of a window in pixels
        stride: vertical and horizontal step in pixels
        batch: crops predicted at once; every image of ``images`` gives one crop per window

    Returns:
        (B,C,H,W) float32, the mean of logits

    Raises:
        InputError: a size is not positive, or strides leave gaps
    """
    height, width = images.shape[-2:]
    total: Tensor | None = None
    count = images.new_zeros(1, 1, height, width, dtype=torch.float32)
    for top, left, logits in _predicted(predict, images, window, stride, batch):
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], height, width)
        here = np.s_[..., top : top + logits.shape[-2], left : left + logits.shape[-1]]
        total[here] += logits
        count[here] += 1
    assert total is not None
    return total.div_(count)


def slide_rows(
    predict: Predict, image: Tensor, *, window: tuple[int, int], stride: tuple[int, int], batch: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """Average a grid of overlapping windows like `slide_logits`, and yield rows once no later window covers them.

    Only ``batch`` crops, and full-width rows over the height of one window, are held in memory.

    Args:
        predict: (N,3,h,w) -> (N,C,h,w); resized to the crops' size bilinearly if it is smaller
        image: (3,H,W), of the type that ``predict`` takes
        window: height and width of a window in pixels
        stride: vertical and horizontal step in pixels
        batch: crops predicted at once

    Yields:
        the first row, and the mean (C,rows,W), float32, from top to bottom; each item overwrites the previous mean

    Raises:
        InputError: a size is not positive, or strides leave gaps
    """
    rows: _OpenRows | None = None
    for top, left, (output,) in _predicted(predict, image[None], window, stride, batch):
        if rows is None:
            rows = _OpenRows(output.new_zeros(*output.shape[:2], image.shape[-1]))
        if top > rows.first:
            yield rows.first, rows.mean(top - rows.first)
            rows.move_to(top)
        rows.add(output, left)
    assert rows is not None
    yield rows.first, rows.mean(min(window[0], image.shape[-2]))


def _predicted(
    predict: Predict, images: Tensor, window: tuple[int, int], stride: tuple[int, int], batch: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield the top row, left column and prediction (B,C,h,w) of each window of a grid over images (B,3,H,W)."""
    check_no_gaps(window, stride, batch)
    size = images.shape[-2:]
    tall, wide = map(min, window, size)
    corners = list(product(*map(_grid_starts, size, window, stride)))
    for some in batched(corners, max(1, batch // len(images))):
        crops = torch.cat([images[..., top : top + tall, left : left + wide] for top, left in some])
        outputs = at_size(predict(crops).float(), (tall, wide)).chunk(len(some))
        for (top, left), output in zip(some, outputs, strict=True):
            yield top, left, output


class _OpenRows:
    """Sums of windows over the rows that later windows may still cover.

    Args:
        total: (C,h,W) zeros, h being a window's height

    Attributes:
        first: the image row of the first row of sums
    """

    def __init__(self, total: Tensor) -> None:
        self.first = 0
        self._total = total
        self._count = total.new_zeros(total.shape[1:])

    def add(self, output: Tensor, left: int) -> None:
        """Add a window (C,h,w) that begins at a column."""
        columns = slice(left, left + output.shape[-1])
        self._total[..., columns] += output
        self._count[..., columns] += 1

    def mean(self, rows: int) -> Tensor:
        """Turn the sums of the first rows into means (C,rows,W); nothing may be added to these rows afterwards."""
        return self._total[:, :rows].div_(self._count[:rows])

    def move_to(self, first: int) -> None:
        """Drop the rows before a new first row."""
        gone, height = first - self.first, len(self._count)
        self.first = first
        for sums in (self._total, self._count):
            # Copy at most as many rows at a time as are dropped, because a tensor cannot be copied onto itself.
            for to in range(0, height - gone, gone):
                size = min(gone, height - gone - to)
                sums[..., to : to + size, :] = sums[..., to + gone : to + gone + size, :]
            sums[..., max(height - gone, 0) :, :] = 0


def check_no_gaps(window: tuple[int, int], stride: tuple[int, int], batch: int = 1) -> None:
    """Check that a grid of windows covers all pixels.

    Args:
        window: height and width in pixels
        stride: vertical and horizontal step in pixels
        batch: crops predicted at once

    Raises:
        InputError: a number is not positive, or a stride is larger than the window
    """
    if batch < 1:
        raise InputError(f"the batch is {batch}; expected at least 1 window")
    if min(*window, *stride) < 1 or stride[0] > window[0] or stride[1] > window[1]:
        raise InputError(
            f"the windows are {window[0]} pixels high and {window[1]} wide, the stride is {stride[0]} down and "
            f"{stride[1]} across; expected at least 1 pixel each, and a stride no larger than the window"
        )


def _fill_uncovered(
    predict: Predict, images: Tensor, depth_m: Tensor, covered: Tensor, *, flip: bool, along: int
) -> Tensor:
    long, short = images.shape[along], min(images.shape[-2:])
    while not bool(covered.all()):
        start = min(int((~covered).nonzero()[0]), long - short)
        extra = _flip_averaged(predict, images.narrow(along, start, short), flip=flip)
        missing = (~covered[start : start + short]).nonzero()[:, 0]
        depth_m.index_copy_(depth_m.ndim + along, missing + start, extra.index_select(along, missing))
        covered[start : start + short] = True
    return depth_m


def _flip_averaged(predict: Predict, images: Tensor, *, flip: bool) -> Tensor:
    size = images.shape[-2:]
    depth_m = at_size(predict(images).float(), size)
    if not flip:
        return depth_m
    return (depth_m + at_size(predict(images.flip(-1)).float(), size).flip(-1)) / 2


def _grid_starts(side: int, window: int, stride: int) -> list[int]:
    steps = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(step * stride, side - window), 0) for step in range(steps)]


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
            view = image.flip(-1) if mirrored else image
            if windows is None:
                logits = predict(view).float()
            else:
                window, stride = ((each, each) for each in windows)
                logits = slide_logits(predict, view, window=window, stride=stride, batch=batch)
            logits = at_size(logits, size)
            if total is None:
                total = torch.zeros_like(logits)
            _add_softmax(total, logits, mirrored=mirrored)
            # Freed before the next view's logits are computed.
            del logits
    assert total is not None, "at least one scale"
    return total.div_(len(images) * (2 if flip else 1))


def _add_softmax(total: Tensor, logits: Tensor, *, mirrored: bool) -> None:
    for first in range(0, logits.shape[-2], _BAND):
        band = slice(first, first + _BAND)
        probabilities = logits[..., band, :].softmax(dim=1)
        total[..., band, :] += probabilities.flip(-1) if mirrored else probabilities
