"""What a model says about one picture: small frozen values that can be shown and saved."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.files import write_json, write_whole
from metaprompts.large_png import write_large_png
from metaprompts.row_bands import row_bands
from metaprompts.visualize.depth import add_depth_legend, color_depth, colored_bands, depth_range
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.segmentation import class_legend, overlay_bands, overlay_labels, palette
from metaprompts.visualize.text import stack_down

_logger = logging.getLogger(__name__)

# 16-bit millimetres end here.
_FARTHEST_MM = 65535
# Pixels from which on images are written band by band: Pillow would hold them once more, with 4 bytes a pixel.
_LARGE = 2**25


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthPrediction:
    """Metric depth of one picture.

    Attributes:
        depth_m: (H,W) float32, metres along the camera's axis
        picture: (H,W,3) uint8 RGB, what was looked at
        valid: (H,W) bool, False where ``depth_m`` means nothing; None: it is valid everywhere
    """

    depth_m: NDArray[np.float32]
    picture: NDArray[np.uint8]
    valid: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        _check_size("depth_m", self.depth_m, self.picture)
        if self.valid is not None:
            _check_size("valid", self.valid, self.picture)

    def show(self, *, legend: bool = True) -> Image.Image:
        """Depth as color, near bright and far dark, with a bar of metres below unless ``legend`` is off."""
        colors = color_depth(self.depth_m, valid=self.valid)
        if legend:
            colors = add_depth_legend(colors, *depth_range(self.depth_m, self.valid))
        return Image.fromarray(colors)

    def save(self, folder: Path, stem: str, *, raw: bool = False) -> list[Path]:
        """Write the depth and its colors.

        Args:
            folder: where to; made if missing
            stem: how the files' names begin
            raw: also write metres as float32, ``STEM_depth.npy``

        Returns:
            the files: ``STEM_depth.png``, 16-bit millimetres, 0 where there is no depth, 65535 for everything beyond
            65.535 m (logged as a warning); ``STEM_depth_color.png``, of the picture's size

        Raises:
            InputError: the folder cannot be written
        """
        paths = [
            _write_png(folder / f"{stem}_depth.png", self.depth_m.shape, self._millimetres()),
            _write_png(
                folder / f"{stem}_depth_color.png",
                self.depth_m.shape,
                (band for _, band in colored_bands(self.depth_m, valid=self.valid)),
            ),
        ]
        if raw:
            paths.append(
                _write(
                    folder / f"{stem}_depth.npy",
                    lambda path: np.save(path, self.depth_m.astype(np.float32, copy=False)),
                )
            )
        return paths

    def _millimetres(self) -> Iterator[NDArray[np.uint16]]:
        """The depth as it is stored, in bands of rows."""
        beyond = 0
        for rows in row_bands(*self.depth_m.shape):
            depth_m, valid = self.depth_m[rows], True if self.valid is None else self.valid[rows]
            measured = (depth_m > 0) & valid
            millimetres = np.where(measured, np.rint(np.float64(depth_m) * 1000), 0)
            beyond += int((millimetres > _FARTHEST_MM).sum())
            # 0 means no measurement, so what is measured never becomes 0.
            yield np.where(measured, np.clip(millimetres, 1, _FARTHEST_MM), 0).astype(np.uint16)
        if beyond:
            _logger.warning("%d pixels are farther than 65.535 m, saved as that; --raw (raw=True) keeps them", beyond)


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationPrediction:
    """The class of every pixel of one picture.

    Attributes:
        labels: (H,W) uint8 or uint16, index into ``classes``
        classes: names
        picture: (H,W,3) uint8 RGB, what was looked at
        confidence: (H,W) float32 in 0..1, probability of the label; None: not kept
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    classes: tuple[str, ...]
    picture: NDArray[np.uint8]
    confidence: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        _check_size("labels", self.labels, self.picture)
        if self.labels.dtype not in (np.uint8, np.uint16):
            raise InputError(f"labels are {self.labels.dtype}; expected uint8 or uint16 indices of classes")
        if self.confidence is not None:
            _check_size("confidence", self.confidence, self.picture)

    def shares(self) -> dict[str, float]:
        """How much of the picture each class covers, 0..1; classes that do not occur are left out."""
        return {self.classes[index]: share for index, share in self._present().items()}

    def show(self, *, legend: bool = True) -> Image.Image:
        """The picture tinted by class, with the names of its classes below unless ``legend`` is off."""
        colors = palette(len(self.classes))
        drawn = overlay_labels(self.picture, self.labels, colors)
        present = list(self._present())
        if legend and present:
            names = [self.classes[index] for index in present]
            drawn = stack_down(drawn, class_legend(names, colors[present], drawn.shape[1]))
        return Image.fromarray(drawn)

    def save(self, folder: Path, stem: str, *, raw: bool = False) -> list[Path]:
        """Write the labels, the tinted picture and the names.

        Args:
            folder: where to; made if missing
            stem: how the files' names begin
            raw: also write the confidence, if it was kept, as float32, ``STEM_confidence.npy``

        Returns:
            the files: ``STEM_labels.png``, whose pixels are class indices (shown in color by its palette; 16-bit gray
            for more than 256 classes); ``STEM_overlay.png``, of the picture's size; ``STEM_classes.json``,
            {index: {name, share}} of all classes

        Raises:
            InputError: the folder cannot be written
        """
        present = self._present()
        names = {
            str(index): {"name": name, "share": present.get(index, 0.0)} for index, name in enumerate(self.classes)
        }
        paths = [
            self._write_labels(folder / f"{stem}_labels.png"),
            _write_png(
                folder / f"{stem}_overlay.png",
                self.labels.shape,
                (band for _, band in overlay_bands(self.picture, self.labels, palette(len(self.classes)))),
            ),
            folder / f"{stem}_classes.json",
        ]
        write_json(paths[-1], names)
        confidence = self.confidence
        if raw and confidence is not None:
            paths.append(
                _write(
                    folder / f"{stem}_confidence.npy",
                    lambda path: np.save(path, confidence.astype(np.float32, copy=False)),
                )
            )
        return paths

    def _present(self) -> dict[int, float]:
        counts = np.zeros(len(self.classes), np.int64)
        for rows in row_bands(*self.labels.shape):
            counts += np.bincount(self.labels[rows].reshape(-1), minlength=len(counts))[: len(counts)]
        return {int(index): float(counts[index] / self.labels.size) for index in np.flatnonzero(counts)}

    def _write_labels(self, path: Path) -> Path:
        if len(self.classes) > 256:
            return _write_png(path, self.labels.shape, [self.labels.astype(np.uint16, copy=False)])
        # All 256 entries: with fewer, Pillow writes fewer bits a pixel, and 255 for "no class" would not survive.
        colors = palette(len(self.classes)).tobytes().ljust(3 * 256, b"\0")
        return _write_png(path, self.labels.shape, [self.labels.astype(np.uint8, copy=False)], palette=colors)


@dataclass(frozen=True, eq=False, kw_only=True)
class PersonPose:
    """The joints of one person.

    Attributes:
        keypoints: (J,2) float32, x and y in pixels of the picture
        scores: (J,) float32, confidence of each joint
        box_xywh: left, top, width, height of the person's box, pixels
        score: confidence in the person as a whole
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
class PosePrediction:
    """The people of one picture.

    Attributes:
        people: one entry a person, none if nobody was found
        joints: names of the J joints
        skeleton: pairs of joint indices that a limb connects
        picture: (H,W,3) uint8 RGB, what was looked at
    """

    people: tuple[PersonPose, ...]
    joints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    picture: NDArray[np.uint8]

    def __post_init__(self) -> None:
        for person in self.people:
            if len(person.keypoints) != len(self.joints):
                raise InputError(f"a person has {len(person.keypoints)} keypoints; expected {len(self.joints)}")

    def show(self) -> Image.Image:
        """The picture with skeletons drawn: left orange, right blue."""
        return Image.fromarray(self._drawn())

    def _drawn(self) -> NDArray[np.uint8]:
        shape = (len(self.people), len(self.joints))
        keypoints = np.array([person.keypoints for person in self.people], np.float32).reshape(*shape, 2)
        scores = np.array([person.scores for person in self.people], np.float32).reshape(shape)
        return draw_skeleton(self.picture, keypoints, scores, self.skeleton, joints=self.joints)

    def save(self, folder: Path, stem: str, *, raw: bool = False) -> list[Path]:
        """Write the joints and the drawn skeletons.

        Args:
            folder: where to; made if missing
            stem: how the files' names begin
            raw: taken for sameness with the other predictions; the JSON is raw already

        Returns:
            the files: ``STEM_pose.json``, a COCO keypoint file (see `coco_keypoints`), and ``STEM_skeleton.png``, of
            the picture's size

        Raises:
            InputError: the folder cannot be written
        """
        path = folder / f"{stem}_pose.json"
        write_json(path, coco_keypoints([(1, stem, self)]))
        return [path, _write_png(folder / f"{stem}_skeleton.png", self.picture.shape[:2], [self._drawn()])]


Prediction = DepthPrediction | SegmentationPrediction | PosePrediction


def coco_results(prediction: PosePrediction, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
    """The people of a picture as entries of a COCO keypoint-results file.

    Args:
        prediction: of one picture
        image_id: the picture's id in the annotations
        category_id: 1 is COCO's person

    Returns:
        a dict for each person: image_id, category_id, keypoints (x, y, score, x, ...), score; no bbox, because COCO's
        evaluation would then measure boxes
    """
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": _flat_keypoints(person),
            "score": float(person.score),
        }
        for person in prediction.people
    ]


def coco_keypoints(pictures: Sequence[tuple[int, str, PosePrediction]]) -> dict[str, Any]:
    """Predicted people in the form of a COCO keypoint annotation file, which says all about itself.

    Args:
        pictures: (image id, file name, prediction) of each picture, all with the same joints

    Returns:
        images, annotations and categories. Each annotation has, besides COCO's entries, ``score`` and
        ``keypoint_scores``; every joint counts as visible (2).
    """
    people = [(image_id, person) for image_id, _, prediction in pictures for person in prediction.people]
    category: dict[str, Any] = {"id": 1, "name": "person", "supercategory": "person"}
    if pictures:
        first = pictures[0][2]
        category["keypoints"] = list(first.joints)
        category["skeleton"] = [[start + 1, end + 1] for start, end in first.skeleton]
    return {
        "images": [
            {"id": image_id, "file_name": name, "width": shown.picture.shape[1], "height": shown.picture.shape[0]}
            for image_id, name, shown in pictures
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


def _write_png(
    path: Path, size: tuple[int, ...], bands: Iterable[NDArray[Any]], *, palette: bytes | None = None
) -> Path:
    height, width = size
    if height * width > _LARGE:
        lower = (band[rows] for band in bands for rows in row_bands(len(band), width))
        return _write(path, lambda scratch: write_large_png(scratch, (height, width), lower, palette=palette))
    image = Image.fromarray(np.concatenate(list(bands)))
    if palette is not None:
        image.putpalette(palette)
    return _write(path, image.save)


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    with write_whole(path) as scratch:
        write(scratch)
    return path


def _check_size(name: str, values: NDArray[Any], picture: NDArray[np.uint8]) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"the picture is {picture.dtype} {picture.shape}; expected uint8 (height, width, 3)")
    if values.shape != picture.shape[:2]:
        raise InputError(f"{name} is {values.shape}; expected the picture's size {picture.shape[:2]}")
