"""A sheet of generated scenes with their ground truth, for the documentation.

python scripts/scene_sheet.py --out docs/pictures/scenes.jpg [--first-seed 0] [--count 6]
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from metaprompts.data.joints import COCO_JOINTS
from metaprompts.synthetic import Scene, generate_scene
from metaprompts.synthetic.world import CLASSES
from metaprompts.tasks.pose import COCO_SKELETON
from metaprompts.visualize.depth import color_depth
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.segmentation import overlay_labels, palette
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import ImageArray

HEIGHT, WIDTH = 256, 384
FARTHEST_M = 40.0


def main() -> int:
    """Draw and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=6)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.count)
    columns = [views(generate_scene(seed, HEIGHT, WIDTH)) for seed in seeds]
    sheet = contact_sheet([list(row) for row in zip(*columns, strict=True)], cell=(HEIGHT // 2, WIDTH // 2))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(arguments.out, quality=90)
    return 0


def views(scene: Scene) -> list[ImageArray]:
    """The image, its classes, its depth, and the joints of its people, visible ones only."""
    joints = np.zeros((len(scene.people), len(COCO_JOINTS), 3), np.float32)
    for number, person in enumerate(scene.people):
        joints[number] = person.keypoints
    return [
        scene.image,
        overlay_labels(scene.image, scene.labels, palette(len(CLASSES))),
        color_depth(np.minimum(scene.depth_m, FARTHEST_M)),
        draw_skeleton(scene.image, joints[..., :2], (joints[..., 2] == 2).astype(np.float32), COCO_SKELETON),
    ]


if __name__ == "__main__":
    sys.exit(main())
