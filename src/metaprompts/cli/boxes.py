"""People's boxes for ``metaprompts predict`` and ``heatmaps``."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.data.datasets.odd_annotations import odd_boxes
from metaprompts.data.io.coco_annotations import Category, parse_categories, parse_images
from metaprompts.data.io.coco_entries import box_of, has_size, is_crowd, parse_each, score_of, whole_of, whole_or_none
from metaprompts.data.io.image_matching import match_images, match_numbers
from metaprompts.data.io.orientation import check_upright_size
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json
from metaprompts.utils.wording import counted

logger = logging.getLogger(__name__)

MINIMUM_SCORE = 0.3
"""Score threshold of boxes, as in mmpose's demo."""

_PERSON = 1
_ENTRY = "image_id and bbox [x, y, width, height]"
_LOW = "with a score below"

Box = tuple[float, ...]


@dataclass(frozen=True)
class Boxes:
    """Boxes by image.

    Attributes:
        path: the file that the boxes come from
        names: image id -> file name, if the file lists its images
        ids: image -> image id
        by_id: image id -> boxes (x, y, width, height, score) in pixels
        sizes: image id -> height and width of the image; None if the file does not give them
    """

    path: Path
    names: Mapping[int, str]
    ids: Mapping[Path, int]
    by_id: Mapping[int, list[Box]]
    sizes: Mapping[int, tuple[int | None, int | None]] = field(default_factory=dict)
    _reported: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        path: Path,
        images: Sequence[Path],
        *,
        minimum_score: float | None = None,
        categories: Sequence[str] = (),
    ) -> "Boxes":
        """Read COCO annotations (with images and annotations) or COCO detections (a list).

        Skips crowds, other categories, empty boxes and boxes with low scores, and logs how many of each.

        Args:
            path: path of the file
            images: the input images
            minimum_score: boxes with lower scores are skipped; `MINIMUM_SCORE` if None
            categories: names or ids of the categories to use; by default people

        Raises:
            InputError: the file has neither format, an entry is not a box, no box remains, or boxes cannot be
                assigned to images
        """
        least = MINIMUM_SCORE if minimum_score is None else minimum_score
        content = read_json(path)
        is_listed = isinstance(content, dict)
        listed, entries = (content.get("images"), content.get("annotations")) if is_listed else ([], content)
        if not isinstance(listed, list) or not isinstance(entries, list):
            raise InputError(f"{path} holds no boxes: expected COCO annotations or a COCO list of detections")
        named = content.get("categories") if is_listed else None
        known = parse_categories(named, path) if isinstance(named, list) and named else []
        is_selected = _selected(known, categories, path)
        why = Counter[str]()
        by_id: dict[int, list[Box]] = defaultdict(list)
        for found in parse_each(entries, lambda entry: _read(entry, is_selected, least), path, "boxes", _ENTRY):
            if isinstance(found, str):
                why[found] += 1
            else:
                by_id[found[0]].append(found[1])
        _report(path, why, left=sum(map(len, by_id.values())))
        images_by_id = parse_images(listed, path)
        names = {number: image.file_name for number, image in images_by_id.items()}
        ids = match_images(images, names, path) if names else match_numbers(images, path)
        if images and by_id and not any(number in by_id for number in ids.values()):
            logger.warning(
                "%s has no box for %s",
                path,
                f"any of the {len(images)} images" if len(images) != 1 else str(*images),
            )
        sizes = {number: (image.height, image.width) for number, image in images_by_id.items()}
        return cls(path, names, ids, dict(by_id), sizes)

    def of(self, image: Path, size: tuple[int, int]) -> list[Box]:
        """The boxes of an image, possibly none; skips boxes outside the image.

        Args:
            image: one of the images passed to `read`
            size: height and width of the image

        Raises:
            InputError: the file does not contain the image, or lists it with a different size
        """
        check_upright_size(image, size, self.sizes.get(self.image_id(image), (None, None)))
        boxes = self.by_id.get(self.image_id(image), [])
        if not boxes:
            return []
        corners = np.array([box[:4] for box in boxes])
        sizes = np.broadcast_to(np.array(size[::-1], dtype=np.float64), (len(boxes), 2))
        lost = ((corners[:, :2] >= sizes) | (corners[:, :2] + corners[:, 2:] <= 0)).any(axis=1)
        lines = odd_boxes(corners, sizes, lambda row: f"box {row}")
        if lost.any():
            lines.append(f"{counted(int(lost.sum()), 'box', 'boxes')} outside the image skipped")
        if lines:
            # Logged once per file.
            level = logging.INFO if self._reported else logging.WARNING
            logger.log(level, "%s, %s: %s", self.path, image, "; ".join(lines))
            self._reported.extend(lines)
        return [box for box, is_lost in zip(boxes, lost, strict=True) if not is_lost]

    def image_id(self, image: Path) -> int:
        """The image's id in the file.

        Raises:
            InputError: the image has no id in the file
        """
        if image not in self.ids:
            raise InputError(f"{image} is not in {self.path}, which identifies images by file name or number")
        return self.ids[image]

    def name(self, image: Path) -> str:
        """The image's name as listed in the file, or the image's own file name if the file lists no images."""
        return self.names.get(self.image_id(image), image.name)


def check_pose_options(model: str, adapters: Sequence[Path], options: Mapping[str, object]) -> None:
    """Check pose-only options; reads only the model's config.

    Args:
        model: folder or id; with adapters, their backbone
        adapters: folders
        options: option -> value, None or empty if not given

    Raises:
        InputError: an option is given without a pose model, or the model does not exist
    """
    given = [option for option, value in options.items() if value not in (None, ())]
    if not given:
        return
    # Imports torch.
    from metaprompts.models.loading import model_folder
    from metaprompts.models.pretrained import CONFIG_FILE
    from metaprompts.tasks import task_class

    configs = [read_json(folder.expanduser() / CONFIG_FILE) for folder in adapters or [model_folder(model)]]
    # An invalid model config raises when the model is loaded.
    tasks = [config["task"]["name"] for config in configs if _has_task(config)]
    if len(tasks) == len(configs) and not any(task_class(task).reads_boxes for task in tasks):
        raise InputError(f"{given[0]} applies only to pose, but {model} predicts {', '.join(tasks)}: omit it")


def _has_task(config: Any) -> bool:
    return isinstance(config, dict) and isinstance(config.get("task"), dict) and "name" in config["task"]


def _selected(known: Sequence[Category], categories: Sequence[str], path: Path) -> Callable[[int | None], bool]:
    """Whether to use boxes of a category id (None for entries without a category)."""
    if categories:
        ids = {number for text in categories for number in _ids(text, known, path)}
        return lambda number: number in ids
    if not known:
        return lambda number: number in (None, _PERSON)
    people = [each.id for each in known if each.name.casefold() == "person"]
    people = people or [each.id for each in known if each.joints] or [each.id for each in known if len(known) == 1]
    if not people:
        names = ", ".join(each.name or str(each.id) for each in known)
        raise InputError(f"{path} has the categories {names}, none of them person: pass --box-category NAME")
    return lambda number: number is None or number in people


def _ids(text: str, known: Sequence[Category], path: Path) -> list[int]:
    found = [each.id for each in known if text.casefold() == each.name.casefold() or text == str(each.id)]
    if not found and not known and text.isascii() and text.isdecimal():
        return [int(text)]
    if not found:
        names = ", ".join(f"{each.name} ({each.id})" for each in known) or "numbers alone"
        raise InputError(f"--box-category is {text!r}; {path} has {names}")
    return found


def _read(
    entry: dict[str, Any], is_selected: Callable[[int | None], bool], minimum_score: float
) -> tuple[int, Box] | str:
    """Image id and box, or the reason to skip the entry."""
    image_id, box, category = whole_of(entry, "image_id"), box_of(entry), whole_or_none(entry, "category_id")
    score = score_of(entry) if entry.get("score") is not None else 1.0
    if is_crowd(entry):
        return "of crowds"
    if not is_selected(category):
        return f"of category {category}"
    if not has_size(box):
        return "smaller than one pixel"
    if score < minimum_score:
        return f"{_LOW} {minimum_score:g} (--min-box-score)"
    return image_id, (*box.tolist(), score)


def _report(path: Path, why: Mapping[str, int], left: int) -> None:
    """Log how many boxes are skipped.

    Raises:
        InputError: all boxes are skipped, and not only because of low scores
    """
    if not why:
        return
    counts = ", ".join(f"{count} {reason}" for reason, count in why.items())
    if not left and not all(reason.startswith(_LOW) for reason in why):
        raise InputError(
            f"{path} holds no usable box: {counts}; give people's boxes [x, y, width, height] in pixels, or pass "
            "--box-category"
        )
    logger.warning("%s: skipped boxes: %s", path, counts)
