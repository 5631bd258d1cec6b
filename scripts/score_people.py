"""Score detectors of people, and pose in their boxes next to pose in the true boxes.

python scripts/score_people.py --annotations FILE --images DIR --detector NAME [--detector NAME ...] [--pose MODEL]

The first --count images with people are used. Recall and precision are those of boxes at IoU 0.5: each box, best first,
takes the true box that it overlaps most and that no better box took. AP is COCO's, over joints (OKS), with
non-maximum suppression by OKS at 0.9 for detected boxes.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from metaprompts.data.io.images import as_image
from metaprompts.engines.evaluate import evaluate
from metaprompts.inference.detectors.base import Boxes, PersonDetector, box_iou
from metaprompts.models.detectors import load_detector
from metaprompts.utils.files import read_json, write_json
from metaprompts.utils.progress import tracked

LEAST_IOU = 0.5


def main() -> int:
    """Detect, score, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--detector", action="append", required=True)
    parser.add_argument("--detector-score", type=float)
    parser.add_argument("--pose", help="a pose model; without it only boxes are scored")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    content = with_people(read_json(arguments.annotations), arguments.count)
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.json"
        write_json(truth, content)
        if arguments.pose:
            rows["true boxes"] = {"AP": average_precision(arguments.pose, truth, arguments.images, None)}
        for name in arguments.detector:
            detector = load_detector(name, "cpu", min_score=arguments.detector_score)
            found, milliseconds = detected(detector, content, arguments.images)
            rows[name] = {**box_scores(found, content), "milliseconds": milliseconds}
            if arguments.pose:
                boxes = Path(folder) / "boxes.json"
                write_json(boxes, [entry for number, each in found.items() for entry in entries(number, each)])
                rows[name]["AP"] = average_precision(arguments.pose, truth, arguments.images, boxes)
    sys.stdout.write(f"{len(content['images'])} images, {len(content['annotations'])} people\n")
    sys.stdout.write(markdown(rows))
    if arguments.out:
        write_json(arguments.out, rows)
    return 0


def with_people(content: dict[str, Any], count: int) -> dict[str, Any]:
    """The first images with annotated people, and those people."""
    people = [each for each in content["annotations"] if each["num_keypoints"] and not each["iscrowd"]]
    with_any = {person["image_id"] for person in people}
    images = [image for image in content["images"] if image["id"] in with_any][:count]
    ids = {image["id"] for image in images}
    return {**content, "images": images, "annotations": [each for each in people if each["image_id"] in ids]}


def detected(detector: PersonDetector, content: dict[str, Any], folder: Path) -> tuple[dict[int, Boxes], float]:
    """The boxes by image id, and the median time of an image in milliseconds."""
    found, seconds = {}, []
    for image in tracked(content["images"], what="detecting"):
        pixels = as_image(folder / image["file_name"])
        start = time.perf_counter()
        found[image["id"]] = detector(pixels)
        seconds.append(time.perf_counter() - start)
    return found, 1000 * median(seconds)


def box_scores(found: dict[int, Boxes], content: dict[str, Any]) -> dict[str, float]:
    """Recall and precision at IoU 0.5."""
    hits = sum(matches(boxes, true_boxes(content, number)) for number, boxes in found.items())
    return {
        "recall": hits / len(content["annotations"]),
        "precision": hits / max(sum(map(len, found.values())), 1),
    }


def true_boxes(content: dict[str, Any], number: int) -> Boxes:
    """The annotated boxes (N,4) of an image."""
    boxes = [person["bbox"] for person in content["annotations"] if person["image_id"] == number]
    return np.array(boxes, np.float32).reshape(-1, 4)


def matches(boxes: Boxes, truth: Boxes) -> int:
    """Number of boxes, best first, that take a true box."""
    hits = 0
    for box in boxes:
        overlaps = box_iou(box, truth)
        if len(truth) and overlaps.max() >= LEAST_IOU:
            truth = np.delete(truth, overlaps.argmax(), axis=0)
            hits += 1
    return hits


def entries(number: int, boxes: Boxes) -> list[dict[str, Any]]:
    """COCO detections of an image."""
    return [{"image_id": number, "category_id": 1, "bbox": box[:4].tolist(), "score": float(box[4])} for box in boxes]


def average_precision(model: str, truth: Path, images: Path, boxes: Path | None) -> float:
    """OKS AP in true or detected boxes."""
    settings = {"data.root": str(images), "data.val": str(truth), "data.val_images": "", "data.num_workers": 0}
    if boxes is not None:
        settings |= {"data.val_boxes": str(boxes), "test.oks_nms": 0.9}
    with tempfile.TemporaryDirectory() as out:
        return float(evaluate(model, settings, recipe="scenes_pose", out=Path(out), worst=0)["AP"])


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """A table of the scores."""
    lines = ["| boxes | recall | precision | OKS AP | ms an image |", "| --- " * 5 + "|"]
    for name, row in rows.items():
        shown = [f"{row[key]:.3f}" if key in row else "-" for key in ("recall", "precision", "AP")]
        time_ms = f"{row['milliseconds']:.0f}" if "milliseconds" in row else "-"
        lines.append(f"| {name} | {' | '.join(shown)} | {time_ms} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
