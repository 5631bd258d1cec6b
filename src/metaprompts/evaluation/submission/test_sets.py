"""Test splits without public targets."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.data.datasets.coco_files import DetectedBox, read_boxes
from metaprompts.data.datasets.odd_annotations import odd_boxes
from metaprompts.data.io.coco_annotations import CocoImage, parse_images
from metaprompts.data.io.coco_entries import has_size
from metaprompts.data.io.decoding import ReadsImages
from metaprompts.data.io.images import images_in
from metaprompts.data.io.list_files import listed_file
from metaprompts.data.io.orientation import read_unlabeled
from metaprompts.data.sample import Person, Sample
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json
from metaprompts.utils.wording import counted

logger = logging.getLogger(__name__)

_PERSON = 1


class ImageFolder(ReadsImages):
    """The images of a folder and its subfolders, sorted.

    Args:
        folder: the folder to search

    Raises:
        InputError: there are no images
    """

    def __init__(self, folder: Path) -> None:
        self.paths = images_in(folder, warn=True) if folder.is_dir() else []
        if not self.paths:
            raise InputError(f"--images {folder} holds no images: give the folder of the test images")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        return str(self.paths[index])

    def files(self, index: int) -> tuple[Path, ...]:
        """The image of a sample."""
        return (self.paths[index],)

    def __getitem__(self, index: int) -> Sample:
        """Read one image.

        Raises:
            InputError: the file is invalid
        """
        return Sample(image=read_unlabeled(self.paths[index], self.reading), path=str(self.paths[index]))


class DetectedPeople(ReadsImages):
    """Detected boxes of people in COCO's test images.

    Args:
        folder: folder of the images
        info: COCO's image_info JSON, or any annotation file of the images
        boxes: JSON list of ``{image_id, category_id, bbox, score}``; category 1 is people; other categories are skipped
        joints: number of joints per person

    Attributes:
        images: the entries of the images in ``info``

    Raises:
        InputError: a file is broken, an entry is not a box, or no box of a listed image remains
    """

    def __init__(self, folder: Path, info: Path, boxes: Path, *, joints: int) -> None:
        self._folder, self._joints, self._said_by = folder, joints, (info, boxes)
        content = read_json(info)
        if not isinstance(content, dict) or not isinstance(content.get("images"), list):
            raise InputError(f"{info} lists no images with id and file_name: give COCO's image_info JSON")
        images = parse_images(content["images"], info)
        self._names = {number: image.file_name for number, image in images.items()}
        self.images = [{"id": number, "file_name": name} for number, name in self._names.items()]
        self._boxes = _people(read_json(boxes), boxes, images)

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self._boxes)

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        name = self._names[self._boxes[index].image_id]
        return str(listed_file(name, [self._folder]) or self._folder / name)

    def files(self, index: int) -> tuple[Path, ...]:
        """The image of a box, and the files with its coordinates."""
        return (Path(self.path(index)), *self._said_by)

    def __getitem__(self, index: int) -> Sample:
        """Read the image of one box.

        Raises:
            InputError: the file is invalid
        """
        box = self._boxes[index]
        person = Person(
            keypoints=np.zeros((self._joints, 3), np.float32),
            box_xywh=box.box_xywh.astype(np.float32),
            image_id=box.image_id,
            annotation_id=index,
            score=box.score,
            area=float(box.box_xywh[2] * box.box_xywh[3]),
        )
        path = self.path(index)
        return Sample(image=read_unlabeled(Path(path), self.reading), path=path, person=person)


def _people(entries: Any, path: Path, known: Mapping[int, CocoImage]) -> list[DetectedBox]:
    people = [box for box in read_boxes(entries, path) if box.category_id == _PERSON]
    listed = [box for box in people if box.image_id in known]
    found = [box for box in listed if has_size(box.box_xywh)]
    # Detections of other categories and test sets are normal; a box smaller than one pixel is a mistake.
    if empty := len(listed) - len(found):
        logger.warning("%s: skipped %s smaller than one pixel", path, counted(empty, "box", "boxes"))
    if found:
        sizes = [(known[box.image_id].width or np.nan, known[box.image_id].height or np.nan) for box in found]
        for line in odd_boxes(np.stack([box.box_xywh for box in found]), np.array(sizes), lambda row: f"box {row}"):
            logger.warning("%s: %s", path, line)
    if not found:
        raise InputError(
            f"{path} holds no person box for a listed image ({counted(len(entries), 'box', 'boxes')}, "
            f"{len(people)} of category {_PERSON}): give detections for these images"
        )
    return found
