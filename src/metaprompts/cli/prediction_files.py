"""The files that ``metaprompts predict`` writes for images."""

import errno
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metaprompts.cli.console import complain
from metaprompts.cli.depth_options import DepthWriter
from metaprompts.cli.output_names import listed_names
from metaprompts.cli.people import People
from metaprompts.errors import InputError
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, Prediction, coco_keypoints
from metaprompts.utils.files import write_json
from metaprompts.visualize.pose import DRAWN_SCORE

_LONGEST_ENDING = "_depth_color.png"
_LONGEST_NAME = 255


@dataclass(frozen=True, kw_only=True)
class PredictionFiles:
    """Writes predictions of images.

    Attributes:
        out: output folder
        names: prefix of the files of each image, relative to ``out``
        people: how people are located
        depth: writes depth
        raw: see `Prediction.save`
        legend: see `Prediction.save`
        min_score: draw only joints with at least this score; None for the default
        failures: one line for each image whose files cannot be written
        poses: the written poses, without their images
    """

    out: Path
    names: dict[Path, Path]
    people: People
    depth: DepthWriter
    raw: bool
    legend: bool
    min_score: float | None
    failures: list[str] = field(default_factory=list)
    poses: list[tuple[Path, PosePrediction]] = field(default_factory=list)

    def save(self, path: Path, prediction: Prediction) -> None:
        """Write the files of one image.

        Raises:
            InputError: the output folder cannot be written, so other images would fail as well
        """
        name = self.names[path]
        # Checked beforehand, because files with shorter suffixes would still be written.
        if len(os.fsencode(name.name + _LONGEST_ENDING)) > _LONGEST_NAME:
            self.failures.append(f"the name of image {path} is too long for the names of its results: rename it")
            return
        try:
            folder = (self.out / name).parent
            if isinstance(prediction, PosePrediction):
                self._save_pose(prediction, path, folder, name.name)
            elif isinstance(prediction, DepthPrediction):
                self.depth.save(prediction, path, folder, name.name, raw=self.raw, legend=self.legend)
            else:
                prediction.save(folder, name.name, raw=self.raw, legend=self.legend)
        except InputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno != errno.ENAMETOOLONG:
                raise
            self.failures.append(str(error))

    def write_poses(self) -> None:
        """Write the people in all images to one COCO keypoint file, if there are poses."""
        if not self.poses:
            return
        rows: list[tuple[int, str, Any]] = []
        boxes = self.people.boxes
        for number, (path, shown) in enumerate(self.poses, 1):
            rows.append((number if boxes is None else boxes.image_id(path), self._listed_name(path), shown))
        write_json(self.out / "poses.json", coco_keypoints(rows))

    def _listed_name(self, path: Path) -> str:
        """The image's name in COCO files."""
        return self._listed[path] if self.people.boxes is None else self.people.boxes.name(path)

    @cached_property
    def _listed(self) -> dict[Path, str]:
        return listed_names(self.names)

    def _save_pose(self, prediction: PosePrediction, path: Path, folder: Path, stem: str) -> None:
        least = DRAWN_SCORE if self.min_score is None else self.min_score
        name = self._listed_name(path)
        prediction.save(folder, stem, raw=self.raw, legend=self.legend, min_score=least, file_name=name)
        # Only the image's shape is still needed; a view of one pixel has that shape but takes no memory.
        blank = np.broadcast_to(np.zeros((), np.uint8), prediction.image.shape)
        self.poses.append((path, replace(prediction, image=blank)))
        # Images in which a detector finds nobody are counted in the summary.
        is_counted = self.people.detector is not None and not prediction.people
        if not is_counted and (line := prediction.unseen(least)) is not None:
            complain(f"{path}: {line}{'; change it with --min-score' if prediction.people else ''}\n")
