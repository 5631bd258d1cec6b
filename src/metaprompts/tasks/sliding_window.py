"""Inference in windows: a row of squares along a wide image for depth, an overlapping grid for segmentation."""

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.tasks.preprocess import at_size
from metaprompts.utils.batches import batched

Predict = Callable[[Tensor], Tensor]


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
    return _in_row(predict, images, windows=windows, flip=flip, along=along)


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
    check_no_gaps(window, stride, batch)
    height, width = images.shape[-2:]
    tall, wide = min(window[0], height), min(window[1], width)
    corners = _corners((height, width), window, stride)
    total: Tensor | None = None
    count = images.new_zeros(1, 1, height, width, dtype=torch.float32)
    for some in batched(corners, max(1, batch // len(images))):
        crops = torch.cat([images[..., top : top + tall, left : left + wide] for top, left in some])
        logits = at_size(predict(crops).float(), (tall, wide)).chunk(len(some))
        if total is None:
            total = logits[0].new_zeros(len(images), logits[0].shape[1], height, width)
        for (top, left), window_logits in zip(some, logits, strict=True):
            total[..., top : top + tall, left : left + wide] += window_logits
            count[..., top : top + tall, left : left + wide] += 1
    assert total is not None
    return total.div_(count)


def slide_rows(
    predict: Predict, image: Tensor, *, window: tuple[int, int], stride: tuple[int, int], batch: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """Average a grid of overlapping windows like `slide_logits`, and yield rows once no later window covers them.

    Only the rows of one window's height, as wide as the image, and ``batch`` crops are held in memory.

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
    check_no_gaps(window, stride, batch)
    height, width = image.shape[-2:]
    tall, wide = min(window[0], height), min(window[1], width)
    rows: _OpenRows | None = None
    for some in batched(_corners((height, width), window, stride), batch):
        crops = torch.stack([image[:, top : top + tall, left : left + wide] for top, left in some])
        outputs = at_size(predict(crops).float(), (tall, wide))
        for (top, left), output in zip(some, outputs, strict=True):
            if rows is None:
                rows = _OpenRows(output.new_zeros(len(output), tall, width))
            if top > rows.first:
                yield rows.first, rows.mean(top - rows.first)
                rows.move_to(top)
            rows.add(output, left)
    assert rows is not None
    yield rows.first, rows.mean(tall)


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
    if min(*window, *stride, batch) < 1 or stride[0] > window[0] or stride[1] > window[1]:
        raise InputError(
            f"got window {window}, stride {stride}, batch {batch}; expected positive numbers and a stride no larger "
            "than the window"
        )


def _in_row(predict: Predict, images: Tensor, *, windows: int, flip: bool, along: int) -> Tensor:
    long, short = images.shape[along], min(images.shape[-2:])
    total = images.new_zeros(len(images), 1, *images.shape[-2:], dtype=torch.float32)
    count = images.new_zeros(long, dtype=torch.float32)
    for start in window_starts(long, short, windows):
        depth_m = _flip_averaged(predict, images.narrow(along, start, short), flip=flip)
        total.narrow(along, start, short).add_(depth_m)
        count[start : start + short] += 1
    mean = total / count.clamp_min(1).view((-1, 1) if along == -2 else (-1,))
    return _fill_uncovered(predict, images, mean, count > 0, flip=flip, along=along)


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


def _corners(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[tuple[int, int]]:
    starts = [_grid_starts(*each) for each in zip(size, window, stride, strict=True)]
    return list(product(*starts))  # type: ignore[arg-type]


def _grid_starts(side: int, window: int, stride: int) -> list[int]:
    steps = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(step * stride, side - window), 0) for step in range(steps)]
