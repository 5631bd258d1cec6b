"""Draw frames of a generated drive with the embedded models' predictions below, filtered over time.

python scripts/video_sheet.py --out docs/pictures/video.jpg [--seed N]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from score_video import FIRST_SEED, TASKS, predictions, steadied

import metaprompts
from metaprompts.inference.video.drawing import drawing_for
from metaprompts.synthetic.drive import generate_drive

FRAMES, SHOWN = 24, (0, 8, 16, 23)


def main() -> int:
    """Predict and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    arguments = parser.parse_args()
    drive = list(generate_drive(arguments.seed, FRAMES))
    rows = [[frame.scene.image for frame in drive]]
    for task in TASKS:
        model = metaprompts.load(f"micro-{task}", "cpu", engine="auto")
        rows.append(drawn(steadied(model, drive, *predictions(model, drive))))
    sheet(rows).save(arguments.out, quality=88)
    return 0


def drawn(found: list[Any]) -> list[np.ndarray]:
    """Predictions as in a clip without a legend."""
    drawing = drawing_for(found[::3], legend=False)
    return [drawing.frame(each) for each in found]


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """The shown frames of each row, side by side, at twice their size."""
    whole = np.concatenate([np.concatenate([row[number] for number in SHOWN], axis=1) for row in rows])
    return Image.fromarray(whole).resize((2 * whole.shape[1], 2 * whole.shape[0]), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    sys.exit(main())
