"""Predicted poses, and their COCO file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.tasks.predictions.base import NotebookDisplay, stacked, write_framed
from metaprompts.utils.files import write_json
from metaprompts.utils.wording import counted
from metaprompts.visualize.legends import legend_text_px, sentences, strip_width
from metaprompts.visualize.pose import DRAWN_SCORE, box_note, draw_boxes, draw_skeleton, skeleton_legend


@dataclass(frozen=True, eq=False, kw_only=True)
class PersonPose:
    """The joints of one person.

    Attributes:
        keypoints: (J,2) float32, x and y in pixels of the image
        scores: (J,) float32, confidence of each joint
        box_xywh: left, top, width, height of the person's box, in pixels
        score: confidence of the person as a whole
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    box_xywh: tuple[float, float, float, float]
    score: float

    def __post_init__(self) -> None:
        if self.keypoints.shape != (len(self.scores), 2):
            raise InputError(
                f"a person's keypoints are {self.keypoints.shape} with {len(self.scores)} scores; expected (J,2) and J"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class PosePrediction(NotebookDisplay):
    """The people in one image.

    Attributes:
        people: one entry per person; empty if none was found
        joints: names of the J joints
        skeleton: pairs of joint indices that a limb connects
        image: (H,W,3) uint8 RGB, the input image
    """

    people: tuple[PersonPose, ...]
    joints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        for person in self.people:
            if len(person.keypoints) != len(self.joints):
                raise InputError(f"a person has {len(person.keypoints)} keypoints; expected {len(self.joints)}")

    def show(self, *, legend: bool = True, min_score: float = DRAWN_SCORE, boxes: bool = True) -> Image.Image:
        """The image with skeletons drawn, left orange, right blue, and each person's box with its score.

        Args:
            legend: explain the colors below the image, and say how many joints are drawn
            min_score: joints with lower scores are not drawn
            boxes: draw the boxes, except a box that is the whole image
        """
        return stacked(self._drawn(min_score, boxes=boxes), self._legend(min_score) if legend else None)

    def save(
        self,
        folder: Path,
        stem: str,
        *,
        raw: bool = False,
        legend: bool = True,
        min_score: float = DRAWN_SCORE,
        file_name: str | None = None,
    ) -> list[Path]:
        """Write the joints and the drawn skeletons.

        Args:
            folder: output folder; created if missing
            stem: prefix of the file names
            raw: accepted for consistency with other predictions; the JSON is already raw
            legend: explain the colors below the skeletons, and say how many joints are drawn
            min_score: joints with lower scores are not drawn; the JSON has all joints
            file_name: the image's file name, for the JSON; None if it has none, and ``stem`` is written

        Returns:
            the files: ``STEM_pose.json``, a COCO keypoint file (see `coco_keypoints`), and ``STEM_skeleton.png``, at
            the image's resolution

        Raises:
            InputError: the folder cannot be written
        """
        path = folder / f"{stem}_pose.json"
        write_json(path, coco_keypoints([(1, file_name or stem, self)]))
        drawn, strip = [self._drawn(min_score, boxes=True)], self._legend(min_score) if legend else None
        return [path, write_framed(folder / f"{stem}_skeleton.png", self.image.shape[:2], drawn, strip)]

    @property
    def located(self) -> list[PersonPose]:
        """The people with a box of their own; without boxes or a detector, the box is the whole image."""
        height, width = self.image.shape[:2]
        return [person for person in self.people if tuple(person.box_xywh) != (0, 0, width, height)]

    def unseen(self, min_score: float = DRAWN_SCORE) -> str | None:
        """A message saying why people have no skeleton in the image; None if all have one."""
        if not self.people:
            return "no person found"
        best = self._scores().max(axis=1, initial=-np.inf, where=~np.isnan(self._scores()))
        hidden = int((best < min_score).sum())
        if hidden == len(best):
            return f"no joint scores at least {min_score:g} (the highest {best.max():.2g}): no skeleton is drawn"
        hidden_note = f"{hidden} of {len(best)} people without a skeleton: no joint scores at least {min_score:g}"
        return hidden_note if hidden else None

    def _drawn(self, min_score: float, *, boxes: bool) -> NDArray[np.uint8]:
        shape = (len(self.people), len(self.joints))
        keypoints = np.array([person.keypoints for person in self.people], np.float32).reshape(*shape, 2)
        drawn = draw_skeleton(self.image, keypoints, self._scores(), self.skeleton, min_score, joints=self.joints)
        if boxes:
            located = self.located
            draw_boxes(drawn, [person.box_xywh for person in located], [person.score for person in located])
        return drawn

    def _scores(self) -> NDArray[np.float32]:
        return np.array([person.scores for person in self.people], np.float32).reshape(-1, len(self.joints))

    def _legend(self, min_score: float) -> NDArray[np.uint8]:
        size = self.image.shape[:2]
        if not self.people:
            return sentences([self.unseen() or ""], strip_width(size[1]), legend_text_px(*size))
        seen = self._scores() >= min_score
        counts = f"{seen.sum()} of {counted(seen.size, 'joint')} drawn: those that score at least {min_score:g}"
        lines = [*([counts] if seen.any() else []), *filter(None, [self.unseen(min_score)])]
        if located := self.located:
            lines.append(box_note([person.score for person in located]))
        return skeleton_legend(self.joints, lines, size)


def coco_keypoints(images: Sequence[tuple[int, str, PosePrediction]]) -> dict[str, Any]:
    """Predicted people as a self-contained COCO keypoint annotation file.

    Args:
        images: (image id, file name, prediction) of each image, all with the same joints

    Returns:
        images, annotations and categories. Each annotation has, in addition to COCO's entries, ``score`` and
        ``keypoint_scores``; every joint counts as visible (2).
    """
    people = [(image_id, person) for image_id, _, prediction in images for person in prediction.people]
    category: dict[str, Any] = {"id": 1, "name": "person", "supercategory": "person"}
    if images:
        first = images[0][2]
        category["keypoints"] = list(first.joints)
        category["skeleton"] = [[start + 1, end + 1] for start, end in first.skeleton]
    return {
        "images": [
            {"id": image_id, "file_name": name, "width": shown.image.shape[1], "height": shown.image.shape[0]}
            for image_id, name, shown in images
        ],
        "annotations": [_annotation(number, image_id, person) for number, (image_id, person) in enumerate(people, 1)],
        "categories": [category],
    }


def _annotation(number: int, image_id: int, person: PersonPose) -> dict[str, Any]:
    box = [float(value) for value in person.box_xywh]
    visible = np.full(len(person.scores), 2.0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": np.column_stack([person.keypoints, visible]).astype(float).ravel().tolist(),
        "num_keypoints": len(person.scores),
        "bbox": box,
        "area": box[2] * box[3],
        "score": float(person.score),
        "keypoint_scores": person.scores.astype(float).tolist(),
    }
