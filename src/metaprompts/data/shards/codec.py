"""Encode an image and its targets as files of a shard, and decode them bit-exactly."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.sample import IGNORED_LABEL, DenseTarget, Person, Sample
from metaprompts.data.shards.index import FACTS

Members = dict[str, bytes]
"""The files of one image: extension after the key and a dot -> content."""

LABELS = "label.png"
"""The extension of the file of class indices."""

CONFIDENCE = "confidence.png"
"""The extension of the file of the confidence of predicted labels: 255 means 1."""

JOINT_CONFIDENCE = "joint_confidence"
"""Key in ``json`` of the confidence of predicted joints: a list for each person."""

_DEPTH_UNITS, _DEPTH_M, _DENSE = "depth.png", "depth.npy", ".dense.npy"
# Extensions of files stored unchanged, which WebDataset readers support.
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}
_LARGEST_UNIT = 65535


def encode(
    sample: Sample,
    people: Sequence[Person],
    *,
    root: Path,
    depth_scale: float | None,
    content: bytes | None = None,
    more: Mapping[str, Any] | None = None,
) -> Members:
    """Encode an image, its targets and its people as files.

    Args:
        sample: the sample whose image, labels and depth are stored; the person is stored only if in ``people``
        people: the people in all samples of the image
        root: the sample's path is stored relative to this folder, if it is inside
        depth_scale: likely number of depth units per meter; None without depth
        content: the original file, if it is not at the sample's path
        more: further entries of ``json``

    Returns:
        ``jpg`` or ``png``, the image: the original file, if every reader decodes the same pixels, else a PNG;
        ``label.png``; 16-bit ``depth.png`` if lossless, else ``depth.npy``; ``NAME.dense.npy`` of further targets; and
        ``json``, with the path, depth units per meter and the people
    """
    path = Path(sample.path)
    facts: dict[str, Any] = {"path": str(path.relative_to(root) if path.is_relative_to(root) else path), **(more or {})}
    members = dict([_image(sample.image, path, content)])
    if sample.labels is not None:
        members[LABELS] = png(sample.labels)
    if sample.depth_m is not None:
        units = None if depth_scale is None else _whole_units(sample.depth_m, depth_scale)
        if units is None:
            members[_DEPTH_M] = _npy(sample.depth_m)
        else:
            members[_DEPTH_UNITS] = png(units)
            facts["depth_units_per_meter"] = depth_scale
    for name, target in sample.dense.items():
        members[f"{name}{_DENSE}"] = _npy(target.values)
    if sample.dense:
        facts["dense"] = {name: [each.nothing, each.mirrored] for name, each in sample.dense.items()}
    if people:
        facts["people"] = [_plain_person(person) for person in people]
    members[FACTS] = json.dumps(facts).encode()
    return members


def decode(members: Mapping[str, bytes], person: int, *, root: Path, min_confidence: float | None = None) -> Sample:
    """Decode the sample.

    Args:
        members: the output of `encode`
        person: index of the sample's person; ignored without people
        root: as for `encode`
        min_confidence: predicted pixels and joints below this confidence have no label
    """
    facts = json.loads(members[FACTS])
    people = facts.get("people")
    sample = Sample(
        image=_pixels(members["jpg" if "jpg" in members else "png"]),
        path=str(root / facts["path"]),
        labels=decode_labels(members[LABELS]) if LABELS in members else None,
        depth_m=_depth_m(members, facts),
        dense={
            name: DenseTarget(values=_read_npy(members[f"{name}{_DENSE}"]), nothing=nothing, mirrored=tuple(mirrored))
            for name, (nothing, mirrored) in facts.get("dense", {}).items()
        },
        person=None if people is None else _person(people[person]),
    )
    if min_confidence is None:
        return sample
    if sample.person is not None:
        joints = np.array(facts[JOINT_CONFIDENCE][person])
        # Joints without a score are NaN.
        sample.person.keypoints[~(joints >= min_confidence)] = 0
        return sample
    uncertain = is_uncertain(members, min_confidence)
    if sample.labels is not None:
        sample.labels[uncertain] = IGNORED_LABEL
    if sample.depth_m is not None:
        sample.depth_m[uncertain] = 0
    for target in sample.dense.values():
        target.values[uncertain] = target.nothing
    return sample


def is_uncertain(members: Mapping[str, bytes], min_confidence: float) -> NDArray[np.bool_]:
    """(H, W) whether the confidence of a pixel is below a number from 0 to 1."""
    uncertain: NDArray[np.bool_] = decode_labels(members[CONFIDENCE]) < min_confidence * 255
    return uncertain


def decode_labels(content: bytes) -> NDArray[np.uint8]:
    """Read (H, W) class indices."""
    return np.array(Image.open(BytesIO(content)))


def path_in(facts: bytes, *, root: Path) -> str:
    """The path of an image, from the content of its ``json`` and the root passed to `encode`."""
    return str(root / json.loads(facts)["path"])


def _image(image: NDArray[np.uint8], path: Path, content: bytes | None) -> tuple[str, bytes]:
    # Not every image has its own file; some are rotated (EXIF), composited over white, or rescaled when read.
    if content is None and path.is_file():
        content = path.read_bytes()
    if content is not None:
        ending = _ENDINGS.get(_format(content))
        if ending is not None and np.array_equal(_pixels(content), image):
            return ending, content
    return "png", png(image)


def _format(content: bytes) -> str:
    try:
        with Image.open(BytesIO(content)) as image:
            return image.format or ""
    except OSError:
        return ""


def _pixels(content: bytes) -> NDArray[np.uint8]:
    """The image as decoded by any WebDataset reader."""
    with Image.open(BytesIO(content)) as image:
        return np.array(image.convert("RGB"))


def png(array: NDArray[Any]) -> bytes:
    """Encode (H, W) integers, or (H, W, 3) colors, as a PNG file."""
    file = BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def _npy(array: NDArray[Any]) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _read_npy(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(BytesIO(content), allow_pickle=False)
    return array


def _whole_units(depth_m: NDArray[np.float32], depth_scale: float) -> NDArray[np.uint16] | None:
    """Depth as stored integers; None if it is not an exact multiple of the unit."""
    units = np.rint(depth_m * np.float32(depth_scale))
    # Non-finite values fail the comparison.
    if not ((units >= 0) & (units <= _LARGEST_UNIT)).all():
        return None
    stored = units.astype(np.uint16)
    return stored if _meters(stored, depth_scale).tobytes() == depth_m.tobytes() else None


def _meters(units: NDArray[np.uint16], depth_scale: float) -> NDArray[np.float32]:
    meters: NDArray[np.float32] = units.astype(np.float32) / np.float32(depth_scale)
    return meters


def _depth_m(members: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[np.float32] | None:
    if _DEPTH_UNITS in members:
        return _meters(np.array(Image.open(BytesIO(members[_DEPTH_UNITS]))), facts["depth_units_per_meter"])
    if _DEPTH_M in members:
        return _read_npy(members[_DEPTH_M])
    return None


def _plain_person(person: Person) -> dict[str, Any]:
    assert person.crop is None, "a person of a data set is in the whole image"
    # Every float32 is also a double, and JSON stores the shortest unique digits of a double, so nothing is lost.
    return {
        "keypoints": person.keypoints.tolist(),
        "box_xywh": person.box_xywh.tolist(),
        "image_id": person.image_id,
        "annotation_id": person.annotation_id,
        "score": person.score,
        "area": person.area,
    }


def _person(values: Mapping[str, Any]) -> Person:
    arrays = {name: np.array(values[name], dtype=np.float32) for name in ("keypoints", "box_xywh")}
    return Person(**{**values, **arrays})
