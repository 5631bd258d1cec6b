"""Stage scenes: render images with captions, once, with several processes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metaprompts.pretraining.array_shards import missing_parts, write_part
from metaprompts.pretraining.config import Scenes
from metaprompts.synthetic import generate_scene
from metaprompts.utils.multiprocessing import in_processes
from metaprompts.utils.progress import tracked

# Seed, height and width -> image (H,W,3) RGB in 0..255, and its caption. A source must be a module-level function,
# because worker processes import it by name.
Source = Callable[[int, int, int], tuple[NDArray[np.uint8], str]]

TRAINING = "training"
HELD_OUT = "held_out"
_FIRST_SEEDS = {TRAINING: 0, HELD_OUT: 500_000}


def generated_scene(seed: int, height: int, width: int) -> tuple[NDArray[np.uint8], str]:
    """A generated scene and its caption; a `Source`."""
    scene = generate_scene(seed, height, width)
    return scene.image, scene.caption


def draw_scenes(settings: Scenes, folder: Path, source: Source = generated_scene) -> None:
    """Draw the missing scenes.

    Args:
        settings: number and size of the scenes
        folder: output folder for training/ and held_out/, each in parts
        source: source of images and captions

    Raises:
        InputError: the folder holds scenes of a different size, or cannot be written
    """
    shape = (settings.height, settings.width, 3)
    jobs = [
        (source, folder / split, rows, _FIRST_SEEDS[split], settings.height, settings.width)
        for split, count in ((HELD_OUT, settings.held_out), (TRAINING, settings.count))
        for rows in missing_parts(folder / split, count, shape)
    ]
    for _ in tracked(in_processes(_draw_part, jobs, settings.workers), len(jobs), what="rendering scenes"):
        pass


def _draw_part(source: Source, folder: Path, rows: range, first_seed: int, height: int, width: int) -> None:
    images, captions = np.empty((len(rows), height, width, 3), np.uint8), []
    for place, row in enumerate(rows):
        images[place], caption = source(first_seed + row, height, width)
        captions.append(caption)
    write_part(folder, rows, images, captions)
