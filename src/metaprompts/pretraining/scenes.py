"""Stage scenes: draw pictures with captions, once, with several processes."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.scenes import generate_scene
from metaprompts.pretraining.parts import missing_parts, write_part
from metaprompts.pretraining.settings import Scenes
from metaprompts.pretraining.tracking import tracked

# Seed, height and width -> picture (H,W,3) RGB in 0..255, and its caption. It must be a function of a module: processes
# that draw find it by its name.
Source = Callable[[int, int, int], tuple[NDArray[np.uint8], str]]

TRAINING = "training"
HELD_OUT = "held_out"
_FIRST_SEEDS = {TRAINING: 0, HELD_OUT: 500_000}


def generated_scene(seed: int, height: int, width: int) -> tuple[NDArray[np.uint8], str]:
    """A generated scene and its caption; a `Source`."""
    scene = generate_scene(seed, height, width)
    return scene.image, scene.caption


def draw_scenes(settings: Scenes, folder: Path, source: Source = generated_scene) -> None:
    """Draw what is not drawn yet.

    Args:
        settings: how many and how large
        folder: gets training/ and held_out/, each in parts
        source: of pictures and captions

    Raises:
        InputError: the folder holds scenes of another size, or cannot be written
    """
    shape = (settings.height, settings.width, 3)
    jobs = [
        (source, folder / split, rows, _FIRST_SEEDS[split], settings.height, settings.width)
        for split, count in ((HELD_OUT, settings.held_out), (TRAINING, settings.count))
        for rows in missing_parts(folder / split, count, shape)
    ]
    for _ in tracked(_drawn(jobs, settings.workers), len(jobs), what="drawing scenes, parts"):
        pass


_Job = tuple[Source, Path, range, int, int, int]


def _drawn(jobs: list[_Job], workers: int) -> Iterator[None]:
    """Draw parts; yields after each."""
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            _draw_part(*job)
            yield
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_prepare_worker, initargs=(os.getpid(),))
    try:
        for drawn in as_completed([pool.submit(_draw_part, *job) for job in jobs]):
            drawn.result()
            yield
    finally:
        pool.shutdown(cancel_futures=True)


_parent: int | None = None


def _prepare_worker(parent: int) -> None:
    global _parent
    _parent = parent
    # Ctrl-C goes to every process of a terminal: the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


def _draw_part(source: Source, folder: Path, rows: range, first_seed: int, height: int, width: int) -> None:
    images, captions = np.empty((len(rows), height, width, 3), np.uint8), []
    for place, row in enumerate(rows):
        if _parent is not None and os.getppid() != _parent:
            raise SystemExit("the process that asked for scenes is gone")
        images[place], caption = source(first_seed + row, height, width)
        captions.append(caption)
    write_part(folder, rows, images, captions)
