"""Point clouds of generated scenes, as micro-depth predicts them, seen from the side, for the documentation.

python scripts/cloud_sheet.py --out docs/pictures/point_cloud.jpg [--seeds 8000000 8000001]

Each row: the image, the colors of its predicted depth, and the point cloud from a camera that moved to the left and up.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.intrinsics import Intrinsics
from metaprompts.models.loading import load
from metaprompts.synthetic import generate_scene
from metaprompts.visualize.point_cloud import PointCloud
from metaprompts.visualize.sheets import contact_sheet

HEIGHT, WIDTH = 512, 768
CELL = (256, 384)
BACKGROUND = 24
YAW_DEG, PITCH_DEG = 22.0, 12.0


def main() -> int:
    """Predict, draw and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[8_000_000, 8_000_001])
    arguments = parser.parse_args()
    model, rows = load("micro-depth", "cpu"), []
    for seed in arguments.seeds:
        scene = generate_scene(seed, HEIGHT, WIDTH)
        prediction = model.predict(scene.image)
        cloud = prediction.point_cloud(intrinsics=Intrinsics.from_matrix(scene.intrinsics))
        rows.append([scene.image, np.array(prediction.show(legend=False)), seen_from_the_side(cloud)])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(contact_sheet(rows, cell=CELL)).save(arguments.out, quality=88)
    return 0


def seen_from_the_side(cloud: PointCloud) -> NDArray[np.uint8]:
    """(H, W, 3): the points, turned around the middle of the nearer half, with near points over far ones."""
    points, colors = cloud.points_m[cloud.kept], cloud.colors[cloud.kept]
    near = np.quantile(points[:, 2], 0.5)
    pivot = np.array([0, 0, near], np.float32)
    turned = (points - pivot) @ rotation().T + pivot
    # Back up a little, so that the turned scene fits into the image.
    turned[:, 2] += 0.35 * near
    order = np.argsort(-turned[:, 2])
    turned, colors = turned[order], colors[order]
    in_front = turned[:, 2] > 0.1
    turned, colors = turned[in_front], colors[in_front]
    pixels = (turned @ cloud.intrinsics.matrix.T.astype(np.float32)) / turned[:, 2:]
    drawn = np.full((HEIGHT, WIDTH, 3), BACKGROUND, np.uint8)
    for down in range(3):
        for right in range(3):
            x, y = np.rint(pixels[:, 0]).astype(int) + right - 1, np.rint(pixels[:, 1]).astype(int) + down - 1
            inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
            drawn[y[inside], x[inside]] = colors[inside]
    return drawn


def rotation() -> NDArray[np.float32]:
    """(3, 3): by YAW_DEG around the vertical axis, then by PITCH_DEG around the horizontal one."""
    yaw, pitch = np.radians([YAW_DEG, PITCH_DEG])
    around_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return (around_x @ around_y).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
