"""People's boxes for ``metaprompts predict --boxes``."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaprompts.data.entries import box_of, has_size, parse_each, score_of
from metaprompts.errors import InputError
from metaprompts.files import read_json


@dataclass(frozen=True)
class Boxes:
    """Boxes by picture.

    Attributes:
        path: the file they are from
        by_name: file name -> image id, where the file lists its pictures
        by_id: image id -> boxes (x, y, width, height, score) in pixels
    """

    path: Path
    by_name: dict[str, int]
    by_id: dict[int, list[tuple[float, ...]]]

    @classmethod
    def read(cls, path: Path) -> "Boxes":
        """Read COCO annotations (with images and annotations) or COCO detections (a list).

        Raises:
            InputError: it is neither, or an entry is no box
        """
        content = read_json(path)
        images, entries = (
            (content.get("images"), content.get("annotations")) if isinstance(content, dict) else ([], content)
        )
        if not isinstance(images, list) or not isinstance(entries, list):
            raise InputError(f"{path} holds no boxes: expected COCO annotations or a COCO list of detections")
        by_id: dict[int, list[tuple[float, ...]]] = defaultdict(list)
        for image_id, box in parse_each(entries, _box, path, "boxes", "image_id and bbox [x, y, width, height]"):
            by_id[image_id].append(box)
        by_name = dict(parse_each(images, _image, path, "images", "id and file_name"))
        return cls(path, by_name, dict(by_id))

    def of(self, picture: Path) -> list[tuple[float, ...]]:
        """The boxes of a picture, none if the file has none for it.

        Raises:
            InputError: the file does not know the picture
        """
        return self.by_id.get(self.image_id(picture, None), [])

    def image_id(self, picture: Path, default: int | None) -> int:
        """The picture's id: by its name, or, in a list of detections, COCO's way: the name is the number.

        Raises:
            InputError: there is none, and no default
        """
        if picture.name in self.by_name:
            return self.by_name[picture.name]
        if not self.by_name and picture.stem.split("_")[-1].isdigit():
            return int(picture.stem.split("_")[-1])
        if default is None:
            raise InputError(f"{picture} is not in {self.path}: its pictures are known by file name or number")
        return default


def _image(entry: dict[str, Any]) -> tuple[str, int]:
    return Path(entry["file_name"]).name, int(entry["id"])


def _box(entry: dict[str, Any]) -> tuple[int, tuple[float, ...]]:
    box = box_of(entry)
    if not has_size(box):
        raise ValueError(f"bbox {entry['bbox']} has no area")
    score = score_of(entry) if "score" in entry else 1.0
    return int(entry["image_id"]), (*box.tolist(), score)
