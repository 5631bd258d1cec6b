"""Locating people for ``metaprompts predict``: boxes from a file or a detector, or whole images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.cli.boxes import Boxes
    from metaprompts.inference.detectors.base import PersonDetector
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.tasks.predictions import Prediction
    from metaprompts.visualize.text import ImageArray


@dataclass(frozen=True, kw_only=True)
class PeopleOptions:
    """The options of `Predict` about people; None or empty if not given."""

    boxes: Path | None
    min_box_score: float | None
    box_category: tuple[str, ...]
    detector: str | None
    detector_score: float | None
    detector_nms: float | None
    max_people: int | None
    oks_nms: float | None

    @property
    def given(self) -> dict[str, object]:
        """Option -> value."""
        return {f"--{name.replace('_', '-')}": value for name, value in vars(self).items() if value not in (None, ())}

    def check(self) -> None:
        """Check that the options do not contradict each other.

        Raises:
            InputError: the options contradict each other
        """
        given = self.given
        if self.boxes is not None and self.detector is not None:
            raise InputError("--boxes and --detector both locate people: pass one of them")
        owners = {
            "--min-box-score": "--boxes",
            "--box-category": "--boxes",
            "--detector-score": "--detector",
            "--detector-nms": "--detector",
            "--max-people": "--detector",
        }
        for option, owner in owners.items():
            if option in given and owner not in given:
                raise InputError(f"{option} is for {owner}: pass {owner} as well, or leave it out")
        if self.oks_nms is not None and self.boxes is None and self.detector is None:
            raise InputError("--oks-nms is for several people: pass --detector or --boxes as well, or leave it out")

    def open(self, paths: Sequence[Path], device: Any) -> "People":
        """Read the box file, or load the detector.

        Args:
            paths: the images
            device: compute device of the detector

        Raises:
            InputError: the file is invalid, or the detector does not load
        """
        from metaprompts.cli.boxes import Boxes

        if self.boxes is not None:
            read = Boxes.read(self.boxes, paths, minimum_score=self.min_box_score, categories=self.box_category)
            return People(boxes=read, oks_nms=self.oks_nms)
        if self.detector is None:
            return People()
        from metaprompts.inference.detectors.base import BOX_NMS
        from metaprompts.inference.detectors.duplicates import OKS_NMS
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
        from metaprompts.inference.detectors.duplicates import without_duplicates
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
