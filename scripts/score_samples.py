"""Measure how often the miniature draws what a caption asks for.

    python scripts/score_samples.py [--count 256] [--out FILE]


Captions come from generated scenes that nothing was trained on. The embedded micro-segmentation judges the drawn
images, and the true scenes for comparison: objects that it misses there, it cannot find in drawn images.
"""

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from caption_presence import Presence, presence
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from metaprompts.embedded import BACKBONE, embedded_folder
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.pretraining.sampling import generate_images
from metaprompts.synthetic import generate_scene
from metaprompts.utils.files import write_json
from metaprompts.utils.progress import tracked

FIRST_SEED = 6_000_000
# The smallest share of an image that a named object covers.
SMALLEST_SHARE = 0.0025


def main() -> int:
    """Draw the images, judge them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    scenes = [generate_scene(FIRST_SEED + number) for number in range(arguments.count)]
    captions = [scene.caption for scene in scenes]
    pipeline = StableDiffusionPipeline.from_pretrained(embedded_folder(BACKBONE))
    drawn = np.concatenate(
        [
            generate_images(pipeline, captions[start : start + 8], start, arguments.steps, arguments.guidance)
            for start in tracked(range(0, len(captions), 8), what="drawing")
        ]
    )
    model = load("micro-segmentation", "cpu")
    classes = model.task.classes
    tables = {
        name: presence(captions, _labels(model, images), classes, smallest_share=SMALLEST_SHARE)
        for name, images in (("drawn", list(drawn)), ("true", [scene.image for scene in scenes]))
    }
    sys.stdout.write(_markdown(tables["drawn"], tables["true"]))
    if arguments.out:
        rows = {name: {key: asdict(row) for key, row in table.items()} for name, table in tables.items()}
        settings = {"count": arguments.count, "steps": arguments.steps, "guidance": arguments.guidance}
        write_json(arguments.out, {**settings, **rows})
    return 0


def _labels(model: MetaPromptModel, images: list[NDArray[np.uint8]]) -> list[NDArray[np.integer]]:
    found = model.predict_many(((image, None) for image in images), batch_size=8)
    return [prediction.labels for prediction in tracked(found, len(images), what="judging")]


def _markdown(drawn: dict[str, Presence], true: dict[str, Presence]) -> str:
    lines = ["| class | asked for | drawn if asked | drawn if not | found in the true scene |", "| --- " * 5 + "|"]
    for name, row in drawn.items():
        shares = (row.found_if_asked, row.found_if_not, true[name].found_if_asked)
        shown = ["-" if math.isnan(share) else f"{100 * share:.0f} %" for share in shares]
        lines.append(f"| {name} | {row.asked} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
