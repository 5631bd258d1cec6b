"""Score models that were trained on generated scenes on photographs they have never seen.

    python scripts/score_photographs.py --camvid DIR --depth DIR micro-segmentation micro-depth [MODEL ...]

--camvid: CamVid, with val.txt (lines of image and mask). mIoU of a segmentation model over the classes that scenes and
          CamVid share; pixels of other classes do not count, and other predicted classes are errors.
--depth:  RedKitchen (7-Scenes), with redkitchen_val.txt. d1 of a depth model after each image's prediction is scaled by
          the median ratio of truth and prediction.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import metaprompts
from metaprompts.data.io.images import read_image
from metaprompts.recipes.loader import read_recipe
from metaprompts.utils.progress import tracked

SHARED = {"road", "building", "sky", "car", "person", "tree", "pole", "pavement"}
CAMVID_NAMES = {"pedestrian": "person"}


def main() -> int:
    """Predict, and print a score for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--depth", type=Path)
    arguments = parser.parse_args()
    for source in arguments.models:
        model = metaprompts.load(source, device="cpu")
        if model.task.name == "segmentation" and arguments.camvid:
            score, name = camvid_miou(model, arguments.camvid), "mIoU over shared classes, CamVid"
        elif model.task.name == "depth" and arguments.depth:
            score, name = aligned_d1(model, arguments.depth), "d1 after scale alignment, RedKitchen"
        else:
            continue
        sys.stdout.write(f"{source}: {name}: {score:.4f}\n")
    return 0


def camvid_miou(model: Any, root: Path) -> float:
    """Mean IoU over the shared classes."""
    true_names = [CAMVID_NAMES.get(name, name) for name in read_recipe("micro_segmentation").task.classes]
    kept = sorted(SHARED & set(true_names))
    counts = np.zeros((len(kept), len(kept) + 1), np.int64)
    for image, mask in tracked(pairs(root, "val.txt"), what="CamVid"):
        labels = model.predict(image).labels
        true, found = numbered(mask, true_names, kept), numbered(labels, model.task.classes, kept)
        seen = true < len(kept)
        np.add.at(counts, (true[seen], found[seen]), 1)
    hits = np.diag(counts)
    return float(np.mean(hits / (counts.sum(axis=1) + counts[:, : len(kept)].sum(axis=0) - hits)))


def numbered(labels: Any, names: Any, kept: list[str]) -> Any:
    """Labels as indices of ``kept``; its length for all other classes."""
    table = np.full(256, len(kept))
    for index, name in enumerate(names):
        if name in kept:
            table[index] = kept.index(name)
    return table[labels]


def aligned_d1(model: Any, root: Path) -> float:
    """Mean d1 over images, each scaled by its median ratio."""
    scores = []
    for image, depth in tracked(pairs(root, "redkitchen_val.txt"), what="RedKitchen"):
        measured = (depth > 0) & (depth < 65535)
        true, found = depth[measured] / 1000, model.predict(image).depth_m[measured]
        found = found * np.median(true / found)
        scores.append(np.mean(np.maximum(true / found, found / true) < 1.25))
    return float(np.mean(scores))


def pairs(root: Path, name: str) -> list[tuple[Any, Any]]:
    """Images and their labels."""
    lines = [line.split() for line in (root / name).read_text().splitlines() if line.strip()]
    return [(read_image(root / image), np.array(Image.open(root / labels))) for image, labels in lines]


if __name__ == "__main__":
    sys.exit(main())
