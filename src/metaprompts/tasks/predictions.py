"""Predictions for one image: small frozen dataclasses that can be shown and saved."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.intrinsics import Intrinsics, default_intrinsics
from metaprompts.data.io.large_png import write_png
from metaprompts.errors import InputError
from metaprompts.tasks.notebook_display import NotebookDisplay
from metaprompts.utils.files import write_array, write_json
from metaprompts.utils.row_bands import row_bands
from metaprompts.utils.wording import counted
from metaprompts.visualize.depth import color_depth, color_notes, colored_bands, depth_legend, depth_range
from metaprompts.visualize.legends import framed, legend_text_px
from metaprompts.visualize.point_cloud import EDGE, PointCloud
from metaprompts.visualize.pose import DRAWN_SCORE, draw_skeleton, skeleton_legend
from metaprompts.visualize.segmentation import class_entries, class_legend, overlay_bands, overlay_labels, palette

_logger = logging.getLogger(__name__)

# The largest depth that 16-bit millimeters can store.
_FARTHEST_MM = 65535


class Prediction(Protocol):
    """The prediction of one image, of any task."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H,W,3) uint8 RGB, the input image."""

    def show(self, *, legend: bool = True) -> Image.Image:
        """An image of the prediction, with a legend below unless ``legend`` is off."""

    def save(self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True) -> list[Path]:
        """Write the prediction and an image of it to files named ``STEM_...``; ``raw`` adds unrounded numbers."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthPrediction(NotebookDisplay):
    """Metric depth of one image.

    Attributes:
        depth_m: (H,W) float32, meters along the camera's axis
        image: (H,W,3) uint8 RGB, the input image
        valid: (H,W) bool, False where ``depth_m`` is meaningless; None if valid everywhere
        agreement: (h,w) float32 in 0..1, how well the last two refinement steps agree, at the size of the model's
            output, see `Task.disagreement`; None unless the number of steps was chosen automatically
    """

    depth_m: NDArray[np.float32]
    image: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None = None
    agreement: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        _check_size("depth_m", self.depth_m, self.image)
        if self.valid is not None:
            _check_size("valid", self.valid, self.image)

    def show(self, *, legend: bool = True) -> Image.Image:
        """Depth as color, near bright and far dark, with a color bar in meters below unless ``legend`` is off."""
        return _stacked(color_depth(self.depth_m, valid=self.valid), self._legend() if legend else None)

    def point_cloud(
        self,
        *,
        fov_x_deg: float | None = None,
        focal_px: float | None = None,
        intrinsics: Intrinsics | None = None,
        edge: float | None = EDGE,
    ) -> PointCloud:
        """The pixels as 3-D points; ``.save("points.ply")`` or ``.save("surface.glb")`` writes them.

        Args:
            fov_x_deg: horizontal field of view of the image in degrees
            focal_px: focal length in pixels, instead of the field of view
            intrinsics: the camera, instead of either; if none of the three is given, `default_intrinsics` is used
            edge: see `PointCloud.from_depth`

        Raises:
            InputError: more than one of the three is given, or a number is out of range
        """
        height, width = self.depth_m.shape
        if sum(each is not None for each in (fov_x_deg, focal_px, intrinsics)) > 1:
            raise InputError("fov_x_deg, focal_px and intrinsics: give at most one of them")
        if fov_x_deg is not None:
            intrinsics = Intrinsics.from_fov_x(fov_x_deg, height, width)
        elif focal_px is not None:
            intrinsics = Intrinsics.from_focal_px(focal_px, height, width)
        return PointCloud.from_depth(
            self.depth_m, self.image, intrinsics or default_intrinsics(height, width), valid=self.valid, edge=edge
        )

    def save(self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True) -> list[Path]:
        """Write the depth and its colors.

        Args:
            folder: output folder; created if missing
            stem: prefix of the file names
            raw: also write meters as float32, ``STEM_depth.npy``
            legend: add a color bar in meters below the image

        Returns:
            the files: ``STEM_depth.png``, 16-bit millimeters, 0 where there is no depth, 65535 for everything beyond
            65.535 m (logged as a warning); ``STEM_depth_color.png``, at the image's resolution

        Raises:
            InputError: the folder cannot be written
        """
        path = folder / f"{stem}_depth.png"
        paths = [
            write_png(path, self.depth_m.shape, self._millimeters(path)),
            _write_framed(
                folder / f"{stem}_depth_color.png",
                self.depth_m.shape,
                (band for _, band in colored_bands(self.depth_m, valid=self.valid)),
                self._legend() if legend else None,
            ),
        ]
        if raw:
            paths.append(write_array(folder / f"{stem}_depth.npy", self.depth_m))
        if raw and self.agreement is not None:
            paths.append(write_array(folder / f"{stem}_agreement.npy", self.agreement))
        return paths

    def _legend(self) -> NDArray[np.uint8]:
        size_px = legend_text_px(*self.depth_m.shape)
        near, far = depth_range(self.depth_m, self.valid)
        notes = color_notes(self.depth_m, self.valid)
        return depth_legend(near, far, self.depth_m.shape[1], size_px=size_px, notes=notes)

    def _millimeters(self, path: Path) -> Iterator[NDArray[np.uint16]]:
        """The depth in 16-bit millimeters, in bands of rows."""
        beyond = 0
        for rows in row_bands(*self.depth_m.shape):
            depth_m, valid = self.depth_m[rows], True if self.valid is None else self.valid[rows]
            measured = (depth_m > 0) & valid
            millimeters = np.where(measured, np.rint(np.float64(depth_m) * 1000), 0)
            beyond += int((millimeters > _FARTHEST_MM).sum())
            # 0 means no measurement, so a measured value is never rounded to 0.
            yield np.where(measured, np.clip(millimeters, 1, _FARTHEST_MM), 0).astype(np.uint16)
        if beyond:
            _logger.warning(
                "%s: %s farther than 65.535 m, saved as 65.535 m; --raw (raw=True) keeps the depth",
                path,
                counted(beyond, "pixel is", "pixels are"),
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationPrediction(NotebookDisplay):
    """The class of every pixel of one image.

    Attributes:
        labels: (H,W) uint8 or uint16, index into ``classes``
        classes: names
        image: (H,W,3) uint8 RGB, the input image
        confidence: (H,W) float32 in 0..1, probability of the label; None if not kept
        agreement: see `DepthPrediction`
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    classes: tuple[str, ...]
    image: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None = None
    agreement: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        _check_size("labels", self.labels, self.image)
        if self.labels.dtype not in (np.uint8, np.uint16):
            raise InputError(f"labels are {self.labels.dtype}; expected uint8 or uint16 class indices")
        if self.confidence is not None:
            _check_size("confidence", self.confidence, self.image)

    def shares(self) -> dict[str, float]:
        """The fraction of the image that each class covers, 0..1; classes that do not occur are omitted."""
        return {self.classes[index]: share for index, share in self._present().items()}

    def show(self, *, legend: bool = True) -> Image.Image:
        """The image tinted by class, with the names of the classes in it below unless ``legend`` is off."""
        drawn = overlay_labels(self.image, self.labels, palette(len(self.classes)))
        return _stacked(drawn, self._legend(self._present()) if legend else None)

    def save(self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True) -> list[Path]:
        """Write the labels, the tinted image and the names.

        Args:
            folder: output folder; created if missing
            stem: prefix of the file names
            raw: also write the confidence, if it was kept, as float32, ``STEM_confidence.npy``
            legend: add the classes that occur, with their colors and shares, below the tinted image

        Returns:
            the files: ``STEM_labels.png``, whose pixels are class indices (shown in color by its palette; 16-bit gray
            for more than 256 classes); ``STEM_overlay.png``, at the image's resolution; ``STEM_classes.json``,
            {index: {name, share, color}} of all classes, color as "#rrggbb"

        Raises:
            InputError: the folder cannot be written
        """
        present, colors = self._present(), palette(len(self.classes))
        paths = [
            self._write_labels(folder / f"{stem}_labels.png"),
            _write_framed(
                folder / f"{stem}_overlay.png",
                self.labels.shape,
                (band for _, band in overlay_bands(self.image, self.labels, colors)),
                self._legend(present) if legend else None,
            ),
            folder / f"{stem}_classes.json",
        ]
        shares = [present.get(index, 0.0) for index in range(len(self.classes))]
        write_json(paths[-1], class_entries(self.classes, shares))
        if raw and self.confidence is not None:
            paths.append(write_array(folder / f"{stem}_confidence.npy", self.confidence))
        if raw and self.agreement is not None:
            paths.append(write_array(folder / f"{stem}_agreement.npy", self.agreement))
        return paths

    def _legend(self, present: dict[int, float]) -> NDArray[np.uint8] | None:
        if not present:
            return None
        largest_first = sorted(present, key=lambda index: (-present[index], index))
        return class_legend(
            [self.classes[index] for index in largest_first],
            palette(len(self.classes))[largest_first],
            self.labels.shape[1],
            numbers=largest_first,
            shares=[present[index] for index in largest_first],
            size_px=legend_text_px(*self.labels.shape),
        )

    def _present(self) -> dict[int, float]:
        counts = np.zeros(len(self.classes), np.int64)
        for rows in row_bands(*self.labels.shape):
            counts += np.bincount(self.labels[rows].reshape(-1), minlength=len(counts))[: len(counts)]
        return {int(index): float(counts[index] / self.labels.size) for index in np.flatnonzero(counts)}

    def _write_labels(self, path: Path) -> Path:
        if len(self.classes) > 256:
            return write_png(path, self.labels.shape, [self.labels.astype(np.uint16, copy=False)])
        # All 256 entries: with fewer, Pillow writes fewer bits per pixel, and 255 for "no class" would not survive.
        colors = palette(len(self.classes)).tobytes().ljust(3 * 256, b"\0")
        return write_png(path, self.labels.shape, [self.labels.astype(np.uint8, copy=False)], palette=colors)


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

    def show(self, *, legend: bool = True, min_score: float = DRAWN_SCORE) -> Image.Image:
        """The image with skeletons drawn: left orange, right blue.

        Args:
            legend: explain the colors below the image, and say how many joints are drawn
            min_score: joints with lower scores are not drawn
        """
        return _stacked(self._drawn(min_score), self._legend(min_score) if legend else None)

    def save(
        self, folder: Path, stem: str, *, raw: bool = False, legend: bool = True, min_score: float = DRAWN_SCORE
    ) -> list[Path]:
        """Write the joints and the drawn skeletons.

        Args:
            folder: output folder; created if missing
            stem: prefix of the file names
            raw: accepted for consistency with other predictions; the JSON is already raw
            legend: explain the colors below the skeletons, and say how many joints are drawn
            min_score: joints with lower scores are not drawn; the JSON has all joints

        Returns:
            the files: ``STEM_pose.json``, a COCO keypoint file (see `coco_keypoints`), and ``STEM_skeleton.png``, at
            the image's resolution

        Raises:
            InputError: the folder cannot be written
        """
        path = folder / f"{stem}_pose.json"
        write_json(path, coco_keypoints([(1, stem, self)]))
        drawn, strip = [self._drawn(min_score)], self._legend(min_score) if legend else None
        return [path, _write_framed(folder / f"{stem}_skeleton.png", self.image.shape[:2], drawn, strip)]

    def unseen(self, min_score: float = DRAWN_SCORE) -> str | None:
        """A message saying why people are not drawn; None if all are drawn."""
        if not self.people:
            return "no people: nothing is drawn"
        best = self._scores().max(axis=1, initial=-np.inf, where=~np.isnan(self._scores()))
        hidden = int((best < min_score).sum())
        if hidden == len(best):
            return f"no joint scores at least {min_score:g} (the highest {best.max():.2g}): nothing is drawn"
        hidden_note = f"{hidden} of {len(best)} people not drawn: none of their joints scores at least {min_score:g}"
        return hidden_note if hidden else None

    def _drawn(self, min_score: float) -> NDArray[np.uint8]:
        shape = (len(self.people), len(self.joints))
        keypoints = np.array([person.keypoints for person in self.people], np.float32).reshape(*shape, 2)
        return draw_skeleton(self.image, keypoints, self._scores(), self.skeleton, min_score, joints=self.joints)

    def _scores(self) -> NDArray[np.float32]:
        return np.array([person.scores for person in self.people], np.float32).reshape(-1, len(self.joints))

    def _legend(self, min_score: float) -> NDArray[np.uint8]:
        seen = self._scores() >= min_score
        counts = f"{seen.sum()} of {counted(seen.size, 'joint')} drawn: those that score at least {min_score:g}"
        lines = [*([counts] if seen.any() else []), *filter(None, [self.unseen(min_score)])]
        return skeleton_legend(self.joints, lines, self.image.shape[:2])


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


def _flat_keypoints(person: PersonPose) -> list[float]:
    flat: list[float] = np.column_stack([person.keypoints, person.scores]).astype(float).ravel().tolist()
    return flat


def _stacked(drawn: NDArray[np.uint8], strip: NDArray[np.uint8] | None) -> Image.Image:
    return Image.fromarray(np.concatenate(list(framed([drawn], drawn.shape[1], strip))))


def _write_framed(
    path: Path, size: tuple[int, ...], bands: Iterable[NDArray[np.uint8]], strip: NDArray[np.uint8] | None
) -> Path:
    height, width = size
    below = (0, width) if strip is None else strip.shape[:2]
    return write_png(path, (height + below[0], below[1]), framed(bands, width, strip))


def _check_size(name: str, values: NDArray[Any], image: NDArray[np.uint8]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"the image is {image.dtype} {image.shape}; expected uint8 (height, width, 3)")
    if values.shape != image.shape[:2]:
        raise InputError(f"{name} is {values.shape}; expected the image's size {image.shape[:2]}")
