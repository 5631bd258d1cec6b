"""Measure how fast one core reads and augments training images, beside albumentations where it is installed.

    python benchmarks/training_images.py [--recipes nyu,kitti,ade20k,cityscapes,coco_pose] [--images 6] [--rounds 5]

For each recipe a few generated scenes are written in the data set's own layout, files and sizes, read by its reader and
augmented by its transforms. albumentations gets the same images in memory and does what it has an operation for: no
CutDepth, no second draw where one class fills the crop, and nothing for pose, where one warp does all. All are timed in
turns; shown are medians over all images and rounds. Exits with 1 if reading and cropping a 2048x1024 pair takes
more than 0.25 s.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from metaprompts.data.sample import Sample
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.training.dataloaders import Split, training_split

# Layout, height and width as the data sets have them.
SOURCES = {
    "nyu": ("nyu", 480, 640),
    "kitti": ("kitti", 375, 1242),
    "ade20k": ("ade20k", 512, 683),
    "cityscapes": ("cityscapes", 1024, 2048),
    "coco_pose": ("coco", 480, 640),
}
BOUNDS_S = {"cityscapes": 0.25}


def main() -> int:
    """Measure, print a line for each recipe; 1 if one is slower than its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(SOURCES))
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    sys.stdout.write(
        "| recipe | read | augment | albumentations | images/s of one core |\n| --- | --- | --- | --- | --- |\n"
    )
    is_slow = False
    for name in options.recipes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            split = written(name, Path(folder) / "data", options.images)
            read, ours, theirs = timed(split, peer(read_recipe(name)), options.images, options.rounds)
        shown = [f"{1000 * seconds:.1f} ms" if seconds else "-" for seconds in (read, ours, theirs)]
        sys.stdout.write(f"| {name} | {' | '.join(shown)} | {1 / (read + ours):.1f} |\n")
        is_slow |= read + ours > BOUNDS_S.get(name, np.inf)
    return int(is_slow)


def written(name: str, folder: Path, images: int) -> Split:
    """A recipe's training split on generated scenes in the data set's layout."""
    layout, height, width = SOURCES[name]
    # Not every scene has a person.
    count = 1 + images * (4 if layout == "coco" else 1)
    write_scenes(layout, count, folder, val_count=1, height=height, width=width, workers=2)
    return training_split(read_recipe(name, [f"--data.root={folder}"]))


def timed(
    split: Split, other: Callable[[Sample], Any] | None, images: int, rounds: int
) -> tuple[float, float, float | None]:
    """Seconds an image: to read it, to augment it, and for the other to augment it."""
    seconds: dict[str, list[float]] = {"read": [], "ours": [], "theirs": []}
    generator = np.random.default_rng(0)
    for round_number in range(rounds + 1):
        for index in range(min(images, len(split.samples))):
            started = time.perf_counter()
            sample = split.samples[index]
            read = time.perf_counter()
            augmented = sample
            for transform in split.transforms:
                augmented = transform(augmented, generator)
            # A crop is a view until it is copied, as it is for a batch.
            np.ascontiguousarray(augmented.image)
            done = time.perf_counter()
            if other is not None:
                other(sample)
            # The first round fills caches.
            if round_number:
                seconds["read"].append(read - started)
                seconds["ours"].append(done - read)
                seconds["theirs"].append(time.perf_counter() - done)
    return median(seconds["read"]), median(seconds["ours"]), median(seconds["theirs"]) if other else None


def peer(recipe: Recipe) -> Callable[[Sample], Any] | None:
    """The same augmentation by albumentations; None where it is not installed or cannot do it."""
    try:
        import albumentations
    except ImportError:
        return None
    if recipe.task.name == "pose":
        return None
    height, width = recipe.augment.crop_size
    crop = albumentations.RandomCrop(height, width, pad_if_needed=True, pad_position="top_left", fill_mask=255)
    flip = albumentations.HorizontalFlip(p=recipe.augment.flip)
    if recipe.task.name == "depth":
        color = [
            albumentations.RandomBrightnessContrast(0.2, 0.2, p=0.5),
            albumentations.RandomGamma((80, 120), p=0.5),
            albumentations.HueSaturationValue(20, 30, 20, p=0.5),
        ]
        both = albumentations.Compose([flip, crop, *color])
        return lambda sample: both(image=sample.image, mask=sample.depth_m)
    low, high = (int(min(recipe.data.image_size) * factor) for factor in recipe.augment.scale_range)
    scale = albumentations.SmallestMaxSize(list(range(low, high + 1)))
    color = [
        albumentations.RandomBrightnessContrast(32 / 255, 0.5, p=0.75),
        albumentations.HueSaturationValue(18, 64, 0, p=0.75),
    ]
    both = albumentations.Compose([scale, crop, flip, *color])
    return lambda sample: both(image=sample.image, mask=sample.labels)


if __name__ == "__main__":
    sys.exit(main())
