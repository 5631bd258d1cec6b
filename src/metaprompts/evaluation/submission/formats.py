"""The submission format of each benchmark server: a prediction's file name and content."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.class_names import ADE20K, CITYSCAPES, class_order, describe_difference
from metaprompts.data.joints import COCO_JOINTS, read_names
from metaprompts.errors import InputError

CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""labelIds of the 19 evaluated classes, in the order of their trainIds."""

_CITYSCAPES_NAME = re.compile(r"[^_]+_\d{6}_\d{6}_leftImg8bit")
_KITTI_UNITS_PER_METER = 256


@dataclass(frozen=True, kw_only=True)
class Format:
    """The submission format of one server.

    Attributes:
        task: name of the task
        name: path of an image -> name of its output file
        encode: labels (H,W) or depth in meters (H,W) -> the stored pixels; None if the format has no images
        check: raises InputError for an unsuitable task
    """

    task: str
    name: Callable[[Path], str]
    encode: Callable[[NDArray[Any]], NDArray[Any]] | None
    check: Callable[[Any], None]


def cityscapes_name(path: Path) -> str:
    """The image's own name; its first three parts, ``city_000000_000019``, identify the result on the server.

    Raises:
        InputError: the image's name does not follow Cityscapes' pattern
    """
    if not _CITYSCAPES_NAME.fullmatch(path.stem):
        raise InputError(f"{path} is not named like Cityscapes images, CITY_000000_000000_leftImg8bit.png")
    return f"{path.stem}.png"


def cityscapes_ids(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Convert classes 0..18 (H,W) to labelIds (H,W)."""
    ids: NDArray[np.uint8] = np.array(CITYSCAPES_LABEL_IDS, np.uint8)[labels]
    return ids


def ade20k_ids(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Convert classes 0..149 (H,W) to 1..150; 0 would mean "other objects"."""
    return (labels + 1).astype(np.uint8)


def kitti_depth(depth_m: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Convert meters (H,W) to KITTI's values, 256 per meter; 0 would mean "no depth", so the smallest value is 1."""
    units = np.rint(np.nan_to_num(np.asarray(depth_m, np.float64)) * _KITTI_UNITS_PER_METER)
    return units.clip(1, np.iinfo(np.uint16).max).astype(np.uint16)


def png(pixels: NDArray[Any]) -> bytes:
    """Encode (H,W) uint8 or uint16 as a grayscale PNG file."""
    done, data = cv2.imencode(".png", pixels)
    assert done
    return bytes(data)


def _own_name(path: Path) -> str:
    return f"{path.stem}.png"


def _check_classes(names: Sequence[str], server: str) -> Callable[[Any], None]:
    def check(task: Any) -> None:
        if len(task.classes) != len(names):
            raise InputError(f"the model has {len(task.classes)} classes; the server expects {len(names)}")
        if class_order(task.classes, names, server) is not None:
            raise InputError(
                f"the model has the classes of {server} in a different order "
                f"({describe_difference(task.classes, names)}), but a submission stores class indices: train with the "
                "data set's order"
            )

    return check


def _check_coco_joints(task: Any) -> None:
    if read_names(task.joints) != read_names(COCO_JOINTS):
        raise InputError(
            f"the model predicts {len(task.joints)} joints, {', '.join(task.joints)}; the server expects COCO's "
            f"{len(COCO_JOINTS)} in this order, {', '.join(COCO_JOINTS)}"
        )


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "cityscapes": Format(
            task="segmentation",
            name=cityscapes_name,
            encode=cityscapes_ids,
            check=_check_classes(CITYSCAPES, "Cityscapes"),
        ),
        "ade20k": Format(
            task="segmentation", name=_own_name, encode=ade20k_ids, check=_check_classes(ADE20K, "ADE20K")
        ),
        "kitti": Format(task="depth", name=_own_name, encode=kitti_depth, check=lambda task: None),
        "coco": Format(task="pose", name=_own_name, encode=None, check=_check_coco_joints),
    }
)
