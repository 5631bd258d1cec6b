"""The camera options of ``metaprompts predict``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.data.io.intrinsics import Intrinsics
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.tasks.predictions import DepthPrediction


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """The camera of each image: from an option, its EXIF data, or assumed.

    Attributes:
        fov_x_deg: horizontal field of view of all images in degrees; None if unknown
        focal_px: focal length of all images in pixels; None if unknown
        matrix: the camera of all images, from --intrinsics; None if unknown
    """

    fov_x_deg: float | None
    focal_px: float | None
    matrix: "Intrinsics | None"

    @classmethod
    def of(
        cls, fov_x_deg: float | None, focal_px: float | None, intrinsics: Path | None, *, used: bool
    ) -> "Cameras | None":
        """Check the options.

        Args:
            fov_x_deg: value of --fov-x
            focal_px: value of --focal-px
            intrinsics: value of --intrinsics
            used: whether another option needs cameras; if not, the result is None

        Raises:
            InputError: the options contradict each other, nothing uses them, or the matrix cannot be read
        """
        options = {"--fov-x": fov_x_deg, "--focal-px": focal_px, "--intrinsics": intrinsics}
        given = [name for name, value in options.items() if value is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} both describe the camera: pass one of them")
        if not used:
            if given:
                raise InputError(
                    f"{given[0]} describes the camera for --point-cloud and --intrinsics-of-training: pass one of them "
                    "as well, or leave it out"
                )
            return None
        from metaprompts.data.io.intrinsics import read_matrix

        return cls(
            fov_x_deg=fov_x_deg, focal_px=focal_px, matrix=None if intrinsics is None else read_matrix(intrinsics)
        )

    def known(self, image: Path, height: int, width: int) -> "Intrinsics | None":
        """The camera of an image, from an option or its EXIF data; None if neither gives it.

        Args:
            image: path of the image
            height: height of the upright image in pixels
            width: width of the upright image in pixels
        """
        from metaprompts.data.io.intrinsics import Intrinsics, exif_intrinsics

        if self.fov_x_deg is not None:
            return Intrinsics.from_fov_x(self.fov_x_deg, height, width)
        if self.focal_px is not None:
            return Intrinsics.from_focal_px(self.focal_px, height, width)
        return self.matrix or exif_intrinsics(image, height, width)

    def known_or_assumed(self, image: Path, height: int, width: int) -> "Intrinsics":
        """Like `known`, but falls back to `default_intrinsics`."""
        from metaprompts.data.io.intrinsics import default_intrinsics

        return self.known(image, height, width) or default_intrinsics(height, width)


@dataclass(frozen=True, kw_only=True)
class TrainingCamera:
    """Rescales depth to the camera of each image: for the same image, depth is proportional to the focal length.

    Attributes:
        focal_px: focal length of the training images, pixels at the size that the model sees
        working_size: height and width that the model sees; None if images are predicted at their own size
        cameras: the camera of each image
    """

    focal_px: float
    working_size: tuple[int, int] | None
    cameras: Cameras

    @classmethod
    def of(cls, model: "MetaPromptModel", source: str, cameras: Cameras, *, windows: bool) -> "TrainingCamera":
        """The camera that a model was trained with.

        Args:
            model: the model that predicts depth
            source: the model's name in errors
            cameras: the camera of each image
            windows: whether images are predicted at their own size, in windows

        Raises:
            InputError: the model states no focal length
        """
        focal_px = getattr(model.task, "focal_px", None)
        if focal_px is None:
            raise InputError(
                f"{source} states no focal length of its training images (task.focal_px in config.json), so "
                "--intrinsics-of-training cannot rescale: leave it out, or correct the depth with metaprompts calibrate"
            )
        return cls(focal_px=focal_px, working_size=None if windows else model.config.working_size, cameras=cameras)

    def rescaled(self, prediction: "DepthPrediction", image: Path) -> "tuple[DepthPrediction, str]":
        """Multiply the depth by the ratio of the two focal lengths; also returns a line that describes this.

        Raises:
            InputError: the image's camera is unknown
        """
        from metaprompts.tasks.preprocess import view_size

        height, width = prediction.depth_m.shape
        camera = self.cameras.known(image, height, width)
        if camera is None:
            raise InputError(
                f"{image}: the camera is unknown (no focal length in EXIF): pass --fov-x, --focal-px or --intrinsics, "
                "or leave out --intrinsics-of-training"
            )
        seen = width if self.working_size is None else view_size(height, width, self.working_size)[1]
        focal_px = camera.focal_x_px * seen / width
        factor = focal_px / self.focal_px
        line = (
            f"{image}: depth x {factor:.4g}: focal length {focal_px:.1f} px ({camera.source}), "
            f"{self.focal_px:.1f} px in training, at the size that the model sees"
        )
        return replace(prediction, depth_m=prediction.depth_m * factor), line
