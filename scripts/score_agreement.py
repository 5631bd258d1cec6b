"""Measure how well the agreement of a model's refinement steps predicts its errors.

    python scripts/score_agreement.py --scenes DIR MODEL

DIR was written by `metaprompts scenes --layout plain`; its validation split is predicted by MODEL, a segmentation model
with a calibrated tolerance (`metaprompts calibrate --steps`). Pixels are sorted by their agreement and divided into ten
bins of equal size; printed for each bin: the largest agreement in it, and the share of correct pixels. The last line
is the area under the ROC curve of agreement as a predictor of correct pixels: 0.5 if it says nothing, 1 if every
correct pixel has a higher agreement than every wrong one. The same is printed for the confidence (softmax).
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata

import metaprompts
from metaprompts.data.io.list_files import find_pairs
from metaprompts.engines.factory import Approximation, open_engine

Array = NDArray[np.float64]

BINS, IGNORED = 10, 255


def main() -> int:
    """Predict, and print a table for each map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("model")
    arguments = parser.parse_args()
    model = open_engine(metaprompts.load(arguments.model), engine="eager", approximation=Approximation(steps="auto"))
    correct, agreement, confidence = [], [], []
    for image, labels in find_pairs(arguments.scenes, "val.txt", None):
        found = model.predict(image)
        truth = np.asarray(Image.open(labels))
        height, width = truth.shape
        maps = (cv2.resize(each, (width, height)) for each in (found.agreement, found.confidence))
        for values, kept in zip(maps, (agreement, confidence), strict=True):
            kept.append(values[truth != IGNORED])
        correct.append((found.labels == truth)[truth != IGNORED])
    for name, values in (("agreement", agreement), ("confidence", confidence)):
        sys.stdout.write(table(name, np.concatenate(values), np.concatenate(correct)))
    return 0


def table(name: str, values: Array, correct: NDArray[np.bool_]) -> str:
    """Ten bins and the area under the ROC curve, as Markdown."""
    bins = np.array_split(np.argsort(values, kind="stable"), BINS)
    rows = "".join(f"| {values[each].max():.3f} | {correct[each].mean():.3f} |\n" for each in bins)
    return f"| {name} up to | correct |\n| ---: | ---: |\n{rows}area under the ROC curve: {area(values, correct):.3f}\n"


def area(values: Array, correct: NDArray[np.bool_]) -> float:
    """Share of pairs of a correct and a wrong pixel in which the correct one has the higher value (ties: one half)."""
    above = rankdata(values)[correct].sum() - correct.sum() * (correct.sum() + 1) / 2
    return float(above / (correct.sum() * (~correct).sum()))


if __name__ == "__main__":
    sys.exit(main())
