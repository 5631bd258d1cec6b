"""Put image files side by side, each with a caption, as the README shows them.

python scripts/image_sheet.py --out docs/pictures/first_predict.jpg image=scene.png classes=scene_overlay.png ...
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from metaprompts.utils.files import write_image
from metaprompts.visualize.sheets import contact_sheet

CELL = (260, 384)


def main() -> int:
    """Read, lay out and write the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("images", nargs="+", metavar="CAPTION=FILE")
    arguments = parser.parse_args()
    pairs = [each.partition("=")[::2] for each in arguments.images]
    images = [np.asarray(Image.open(file).convert("RGB")) for _, file in pairs]
    starts = range(0, len(pairs), arguments.columns)
    rows = [images[start : start + arguments.columns] for start in starts]
    captions = [[caption for caption, _ in pairs[start : start + arguments.columns]] for start in starts]
    write_image(arguments.out, contact_sheet(rows, captions, cell=CELL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
