"""Results as tar files in WebDataset's layout, which training reads like those of ``metaprompts data shard``."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.data.sample import DenseTarget, Person, Sample
from metaprompts.data.shards.codec import CONFIDENCE, JOINT_CONFIDENCE, Members, decode_labels, encode
from metaprompts.data.shards.index import LeftOut
from metaprompts.data.shards.records import Encoded
from metaprompts.data.shards.writer import write_tar
from metaprompts.errors import InputError
from metaprompts.scale.images import Content
from metaprompts.scale.label import Label, depth_units
from metaprompts.tasks.base import Task
from metaprompts.tasks.normals import NormalsPrediction
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, Prediction, SegmentationPrediction
from metaprompts.utils.schema import to_dict

SUFFIX = ".tar"
PART_SUFFIX = ".json"
"""Suffix of a tar file's sidecar, which describes its contents."""

_ROOT = Path()
# Class 255 means "ignored" in masks.
_CLASSES_AT_MOST = 255
# No image has this many people.
_PEOPLE = 10**4


def check_task(task: Task) -> None:
    """Check that labels of a task can be trained on.

    Raises:
        InputError: the task has more classes than masks can hold
    """
    if len(getattr(task, "classes", ())) > _CLASSES_AT_MOST:
        raise InputError(
            f"the model has {task.outputs} classes, but masks in tar files hold at most {_CLASSES_AT_MOST}"
        )


def write_labels(
    writing: AbstractContextManager[Path],
    name: str,
    first: int,
    labels: Iterable[tuple[Content, Label, Prediction | None]],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write labels as one tar file.

    Args:
        writing: opens the file to write; not entered if no image has a label
        name: the file's final name
        first: index of the first image in the source
        labels: images and labels in order
        facts: "fingerprint" of the model and "depth_scale"

    Returns:
        the file's metadata: "shard", "left_out", "people" of each record, "images", "errors", and the "confidences" of
        all images
    """
    said = _Said()
    largest: dict[str, tuple[float, ...]] = {}
    records = _records(first, labels, facts, said, largest)
    begun = next(records, None)
    if begun is None:
        return {"shard": None, **vars(said)}
    with writing as path:
        shard = write_tar(path, name, chain([begun], records))
    confident = tuple(replace(record, confidence=largest[record.key]) for record in shard.records)
    return {"shard": to_dict(replace(shard, records=confident)), **vars(said)}


@dataclass
class _Said:
    """Metadata of the images in a tar file."""

    images: int = 0
    errors: int = 0
    left_out: list[dict[str, Any]] = field(default_factory=list)
    people: list[dict[str, Any]] = field(default_factory=list)
    confidences: list[float | None] = field(default_factory=list)

    def leave_out(self, key: str, why: str) -> None:
        self.left_out.append(to_dict(LeftOut(key=key, samples=(), why=why)))


def _records(
    first: int,
    labels: Iterable[tuple[Content, Label, Prediction | None]],
    facts: Mapping[str, Any],
    said: _Said,
    largest: dict[str, tuple[float, ...]],
) -> Iterator[Encoded]:
    """The records of the labels; ``largest`` gets the `Record.confidence` of each."""
    sample = 0
    for number, (content, label, prediction) in enumerate(labels, first):
        key = f"{number:08d}"
        said.images += 1
        said.confidences.append(label.confidence)
        if prediction is None:
            said.errors += 1
            said.leave_out(key, label.error or "")
        elif label.people == []:
            said.leave_out(key, f"{label.path}: no people were found")
        else:
            count = 1
            if label.people is not None:
                count = len(label.people)
                said.people.append(_annotated(number, label))
            largest[key] = _largest(label)
            members = _members(content, label, prediction, number, facts)
            yield Encoded(key=key, samples=tuple(range(sample, sample + count)), members=members)
            sample += count


def _largest(label: Label) -> tuple[float, ...]:
    if label.people is not None:
        # A joint without a score is NaN.
        return tuple(max(0.0, *np.nan_to_num(each["keypoints"][2::3]).tolist()) for each in label.people)
    return () if label.confidence_map is None else (float(decode_labels(label.confidence_map).max()) / 255,)


def _members(content: Content, label: Label, prediction: Prediction, number: int, facts: Mapping[str, Any]) -> Members:
    scale = facts["depth_scale"]
    persons = _persons(prediction, number)
    more: dict[str, Any] = {"model": facts["fingerprint"], "confidence": label.confidence}
    if label.people is not None:
        more[JOINT_CONFIDENCE] = [each["keypoints"][2::3] for each in label.people]
    sample = replace(
        Sample(image=prediction.image, path=label.path), **_targets(prediction, scale), person=next(iter(persons), None)
    )
    depth_scale = scale if isinstance(prediction, DepthPrediction) else None
    members = encode(sample, persons, root=_ROOT, depth_scale=depth_scale, content=content.file_bytes(), more=more)
    return members if label.confidence_map is None else {**members, CONFIDENCE: label.confidence_map}


def _targets(prediction: Prediction, scale: float) -> dict[str, Any]:
    if isinstance(prediction, SegmentationPrediction):
        return {"labels": prediction.labels.astype(np.uint8)}
    if isinstance(prediction, DepthPrediction):
        units = depth_units(prediction.depth_m, prediction.valid, scale)
        return {"depth_m": units.astype(np.float32) / np.float32(scale)}
    if isinstance(prediction, NormalsPrediction):
        return {"dense": {"normals": DenseTarget(values=prediction.normals, mirrored=(-1.0, 1.0, 1.0))}}
    return {}


def _persons(prediction: Prediction, number: int) -> list[Person]:
    if not isinstance(prediction, PosePrediction):
        return []
    return [
        Person(
            keypoints=np.column_stack([each.keypoints, np.full(len(each.scores), 2)]).astype(np.float32),
            box_xywh=np.array(each.box_xywh, np.float32),
            image_id=number,
            annotation_id=number * _PEOPLE + place,
            score=each.score,
            area=float(each.box_xywh[2] * each.box_xywh[3]),
        )
        for place, each in enumerate(prediction.people)
    ]


def _annotated(number: int, label: Label) -> dict[str, Any]:
    """An image and its people, as in COCO's annotation files."""
    image = {"id": number, "file_name": label.path, "width": label.width, "height": label.height}
    return {
        "image": image,
        "annotations": [_annotation(number, place, each) for place, each in enumerate(label.people or ())],
    }


def _annotation(number: int, place: int, person: dict[str, Any]) -> dict[str, Any]:
    flat, box = person["keypoints"], person["box_xywh"]
    joints = [value for at in range(0, len(flat), 3) for value in (flat[at], flat[at + 1], 2)]
    return {
        "id": number * _PEOPLE + place,
        "image_id": number,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": joints,
        "num_keypoints": len(flat) // 3,
        "bbox": box,
        "area": box[2] * box[3],
    }
