"""Score predictions of generated drives with and without filtering over time.

python scripts/score_video.py [--drives N] [--frames N] [--task depth ...] [--out FILE]

The models are the embedded ones; the drives' flow, depth, classes and joints are exact. Pose gets the true boxes.

error: depth: mean of |prediction - truth| / truth; segmentation: share of wrong pixels; pose: mean distance of visible
joints, as a share of the box's longer side. warping error: how much a prediction changes from frame to frame beyond the
truth, followed along the true flow where a point is seen in both: depth: mean of |change of log prediction - change of
log truth|; segmentation: share of pixels whose class changes though the true one does not; pose: mean change of a
joint's error vector, as a share of the box's longer side. flicker: depth: |median of that change over the image|, the
common change of all pixels; segmentation: share of pixels that change their class and change back in the next frame;
pose: mean second difference of the error vectors.
"""

import argparse
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import metaprompts
from metaprompts.inference.predict import predict_many
from metaprompts.inference.video.dense_filter import DenseFilter
from metaprompts.inference.video.tracks import PoseTracks
from metaprompts.synthetic.drive import FPS, DriveFrame, generate_drive
from metaprompts.utils.files import write_json
from metaprompts.utils.progress import tracked

TASKS = ("depth", "segmentation", "pose")
FIRST_SEED = 3_000_000
SCORES = ("error", "warping error", "flicker")
Rows = list[dict[str, float]]


def main() -> int:
    """Predict, score, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", type=int, default=4)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--task", action="append", choices=TASKS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.drives)
    drives = [list(generate_drive(seed, arguments.frames)) for seed in tracked(seeds, what="drawing drives")]
    table = {task: score_task(task, drives) for task in arguments.task or TASKS}
    sys.stdout.write(markdown(table))
    if arguments.out:
        write_json(arguments.out, table)
    return 0


def score_task(task: str, drives: list[list[DriveFrame]]) -> dict[str, dict[str, float]]:
    """off, on -> mean scores over all drives."""
    model = metaprompts.load(f"micro-{task}", "cpu", engine="auto")
    rows: dict[str, Rows] = {"off": [], "on": []}
    for drive in tracked(drives, what=task):
        off, raws = predictions(model, drive)
        rows["off"] += SCORE[task](drive, off)
        rows["on"] += SCORE[task](drive, steadied(model, drive, off, raws))
    return {name: mean_scores(each) for name, each in rows.items()}


def predictions(model: Any, drive: list[DriveFrame]) -> tuple[list[Any], list[Any]]:
    """The prediction and the raw output of each frame; pose in the true boxes."""
    raws: list[Any] = []

    def keep(image: Any, raw: Any) -> Any:
        raws.append(raw.clone())
        return raw

    boxes = model.task.reads_boxes
    inputs = (
        (frame.scene.image, [person.box_xywh for person in frame.scene.people] if boxes else None) for frame in drive
    )
    return list(predict_many(model, inputs, 1, raw_filter=keep)), raws


def steadied(model: Any, drive: list[DriveFrame], found: list[Any], raws: list[Any]) -> list[Any]:
    """The predictions as `VideoPredictor` filters them."""
    if model.task.reads_boxes:
        tracks = PoseTracks()
        return [tracks(each, Fraction(number, FPS)) for number, each in enumerate(found)]
    steady = DenseFilter(model.task.name)
    images = [frame.scene.image for frame in drive]
    return [model.task.assemble(image, [(None, steady(image, raw))]) for image, raw in zip(images, raws, strict=True)]


def mean_scores(rows: Rows) -> dict[str, float]:
    """The mean of each score over the rows that have it."""
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in SCORES}


def score_depth(drive: list[DriveFrame], found: list[Any]) -> Rows:
    """A row for each frame."""
    rows, before = [], None
    for frame, prediction in zip(drive, found, strict=True):
        truth, known = frame.scene.depth_m, frame.scene.depth_m > 0
        ratio = np.log(prediction.depth_m) - np.log(np.where(known, truth, 1))
        row = {"error": float((np.abs(prediction.depth_m - truth)[known] / truth[known]).mean())}
        if before is not None:
            change = (ratio - followed(before, frame))[frame.seen_before & known]
            row |= {"warping error": float(np.abs(change).mean()), "flicker": float(abs(np.median(change)))}
        rows.append(row)
        before = np.where(known, ratio, 0).astype(np.float32)
    return rows


def score_segmentation(drive: list[DriveFrame], found: list[Any]) -> Rows:
    """A row for each frame."""
    rows: Rows = []
    known = [(frame.scene.labels, each.labels) for frame, each in zip(drive, found, strict=True)]
    for number, frame in enumerate(drive):
        truth, labels = known[number]
        row = {"error": float((labels != truth).mean())}
        if number:
            same = frame.seen_before & (followed(known[number - 1][0], frame) == truth)
            row["warping error"] = float((followed(known[number - 1][1], frame) != labels)[same].mean())
        if number > 1:
            one, two = (
                followed(known[number - back][1], *drive[number - back + 1 : number + 1][::-1]) for back in (1, 2)
            )
            row["flicker"] = float(((one != labels) & (two == labels))[same].mean())
        rows.append(row)
    return rows


def score_pose(drive: list[DriveFrame], found: list[Any]) -> Rows:
    """A row for each person in each frame."""
    rows: Rows = []
    former: dict[int, list[Any]] = {}
    for frame, prediction in zip(drive, found, strict=True):
        for person, guess in zip(frame.scene.people, prediction.people, strict=True):
            seen = person.keypoints[:, 2] == 2
            errors = (guess.keypoints - person.keypoints[:, :2]) / max(person.box_xywh[2:])
            errors = np.where(seen[:, None], errors, np.nan)
            row = {"error": np.linalg.norm(errors, axis=1)}
            history = former.setdefault(person.thing, [])
            if history:
                row["warping error"] = np.linalg.norm(errors - history[-1], axis=1)
            if len(history) > 1:
                row["flicker"] = np.linalg.norm(errors - 2 * history[-1] + history[-2], axis=1)
            history.append(errors)
            rows.append({name: float(np.nanmean(value)) for name, value in row.items() if np.isfinite(value).any()})
    return rows


SCORE = {"depth": score_depth, "segmentation": score_segmentation, "pose": score_pose}


def followed(values: np.ndarray, *frames: DriveFrame) -> np.ndarray:
    """Values of an earlier frame at the places where a frame's points were; through several frames, latest first.

    Classes are those of the nearest pixel, numbers are interpolated.
    """
    for frame in frames[::-1]:
        rows, columns = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
        places = np.stack([columns, rows], axis=2) + frame.flow
        how = cv2.INTER_LINEAR if values.dtype == np.float32 else cv2.INTER_NEAREST
        values = cv2.remap(values, places, None, how, borderMode=cv2.BORDER_REPLICATE)
    return values


def markdown(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """The scores in percent."""
    lines = [f"| task | filter | {' | '.join(SCORES)} |", "| --- | --- | --- | --- | --- |"]
    for task, rows in table.items():
        for name, row in rows.items():
            lines.append(f"| {task} | {name} | {' | '.join(f'{100 * row[each]:.2f} %' for each in SCORES)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
