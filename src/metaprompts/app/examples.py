"""Example images: generated scenes."""

from pathlib import Path

from PIL import Image

from metaprompts.synthetic import generate_scene
from metaprompts.utils.files import cache_folder, write_image

SEEDS = (3, 35, 16, 6)
_HEIGHT, _WIDTH = 320, 480
# To be changed whenever the scenes change.
_VERSION = "app-examples-1"


def example_images() -> list[Path]:
    """The examples; rendered on first use, and kept in the cache folder."""
    folder = cache_folder() / _VERSION
    paths = [folder / f"scene_{seed}.png" for seed in SEEDS]
    for seed, path in zip(SEEDS, paths, strict=True):
        if not path.is_file():
            write_image(path, Image.fromarray(generate_scene(seed, _HEIGHT, _WIDTH).image))
    return paths
