"""A sheet of generated scenes with the people that the embedded models find in them, for the documentation.

python scripts/people_sheet.py --out docs/pictures/people.jpg [--first-seed 8000000] [--count 6]

Each cell is the image that metaprompts predict micro-pose --detector micro-segmentation --no-legend writes. The scenes
are the first ones with people, not selected by their predictions.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
from PIL import Image

from metaprompts.inference.detectors.base import without_duplicates
from metaprompts.models.detectors import load_detector
from metaprompts.models.loading import load
from metaprompts.synthetic import Scene, generate_scene
from metaprompts.visualize.sheets import contact_sheet

HEIGHT, WIDTH = 256, 384
COLUMNS = 3


def main() -> int:
    """Predict, draw and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=8_000_000)
    parser.add_argument("--count", type=int, default=6)
    arguments = parser.parse_args()
    detector, model = load_detector("micro-segmentation", "cpu"), load("micro-pose", "cpu")
    drawn = []
    for scene in islice(with_people(arguments.first_seed), arguments.count):
        prediction = without_duplicates(model.task, model.predict(scene.image, boxes=detector))
        drawn.append(np.asarray(prediction.show(legend=False)))
    rows = [drawn[start : start + COLUMNS] for start in range(0, len(drawn), COLUMNS)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(contact_sheet(rows, cell=(HEIGHT, WIDTH))).save(arguments.out, quality=85)
    return 0


def with_people(first_seed: int) -> Iterator[Scene]:
    """The scenes with annotated people, starting at a seed."""
    for seed in count(first_seed):
        scene = generate_scene(seed, HEIGHT, WIDTH)
        if scene.people:
            yield scene


if __name__ == "__main__":
    sys.exit(main())
