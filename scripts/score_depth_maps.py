"""Measure what the usual depth scores do not show: a grid, the sky, the frame, and edges.

    python scripts/score_depth_maps.py --scenes DIR micro-depth [MODEL ...]

DIR was written by `metaprompts scenes --layout plain` or scripts/score_embedded.py; its validation split is predicted.
Printed for each model:

grid   power of the logarithm of depth at periods of 8 and 4 pixels, along rows and columns, divided by that of
       neighboring periods; the largest of the four. 1 where there is no grid.
sky    median predicted depth of the sky, divided by the far end (99th percentile of the true depth) of the same scene;
       the median over scenes with sky. Above 1 where the sky is behind everything.
frame  mean absolute error of log depth within 8 pixels of the border, divided by that of all other pixels.
edges  mean absolute error of log depth within 4 pixels of true depth edges, where neighbors differ by more than 10 %.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import metaprompts
from metaprompts.data.datasets.pairs import DepthPairs
from metaprompts.data.datasets.views import with_sky
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.data.io.list_files import find_pairs

Array = NDArray[np.float64]

SKY_CLASS, DEPTH_SCALE = 13, 256
GRID_PERIODS_PX, NEIGHBORS = (8, 4), (-4, -3, 3, 4)
EDGE, EDGE_REACH_PX, FRAME_PX = 0.1, 4, 8


def grid_power(log_depth: Array) -> Array:
    """Mean power by frequency along the last axis, (W // 2 + 1,)."""
    width = log_depth.shape[-1]
    centered = log_depth - log_depth.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(centered * np.hanning(width), axis=-1)
    power: Array = (np.abs(spectrum) ** 2).mean(axis=tuple(range(log_depth.ndim - 1)))
    return power


def grid_ratio(power: Array, width: int) -> float:
    """The largest of power at a grid's frequency over the mean of its neighbors."""
    ratios = []
    for period in GRID_PERIODS_PX:
        bin_ = round(width / period)
        around = [power[bin_ + offset] for offset in NEIGHBORS if bin_ + offset < len(power)]
        ratios.append(power[bin_] / np.mean(around))
    return float(max(ratios))


def near_edges(depth_m: Array) -> NDArray[np.bool_]:
    """(H, W), True within reach of an edge of a depth map; where nothing was measured there are no edges."""
    logs, known = (
        np.log(np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, 1)),
        np.isfinite(depth_m) & (depth_m > 0),
    )
    edges = np.zeros(depth_m.shape, np.uint8)
    for axis in (0, 1):
        jump = np.abs(np.diff(logs, axis=axis)) > EDGE
        both = known.take(range(1, known.shape[axis]), axis) & known.take(range(known.shape[axis] - 1), axis)
        place = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        edges[place] |= (jump & both).astype(np.uint8)
    kernel = np.ones((2 * EDGE_REACH_PX + 1,) * 2, np.uint8)
    return cv2.dilate(edges, kernel).astype(bool)


def pairs(model: Any, samples: Any) -> Iterator[tuple[Array, Array]]:
    """(predicted, true) meters of each image; infinite where there is sky."""
    for index in range(len(samples)):
        sample = samples[index]
        yield model.predict(sample.image).depth_m.astype(np.float64), sample.depth_m.astype(np.float64)


def measure(model: Any, samples: Any) -> dict[str, float]:
    """All four numbers of one model."""
    rows, columns, skies, frames, inner, edges = [], [], [], [], [], []
    for predicted_m, true_m in pairs(model, samples):
        log_predicted = np.log(predicted_m)
        rows.append(grid_power(log_predicted))
        columns.append(grid_power(log_predicted.T))
        measured, sky = np.isfinite(true_m) & (true_m > 0), np.isinf(true_m)
        if sky.mean() > 0.01:
            skies.append(np.median(predicted_m[sky]) / np.percentile(true_m[measured], 99))
        errors = np.abs(log_predicted - np.log(np.where(measured, true_m, 1)))
        border = np.ones(true_m.shape, bool)
        border[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = False
        frames.append(errors[measured & border].mean())
        inner.append(errors[measured & ~border].mean())
        edges.append(errors[measured & near_edges(true_m)])
    height, width = true_m.shape
    return {
        "grid": max(grid_ratio(np.mean(rows, axis=0), width), grid_ratio(np.mean(columns, axis=0), height)),
        "sky": float(np.median(skies)),
        "frame": float(np.mean(frames) / np.mean(inner)),
        "edges": float(np.concatenate(edges).mean()),
    }


def main() -> int:
    """Predict, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    encoding = DepthEncoding(depth_scale=DEPTH_SCALE)
    measured = DepthPairs(find_pairs(arguments.scenes, "depth_val.txt", None), encoding)
    samples = with_sky(measured, arguments.scenes / "labels", SKY_CLASS)
    sys.stdout.write("| model | grid | sky | frame | edges |\n| --- | --- | --- | --- | --- |\n")
    for name in arguments.models:
        found = measure(metaprompts.load(name), samples)
        numbers = " | ".join(f"{found[key]:.3f}" for key in ("grid", "sky", "frame", "edges"))
        sys.stdout.write(f"| {name} | {numbers} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
