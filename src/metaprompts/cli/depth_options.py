"""The options of ``metaprompts predict`` for depth models: cameras, and files in 3-D."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from metaprompts.cli.options import option
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.data.io.intrinsics import Intrinsics
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.tasks.predictions import DepthPrediction

_SPACE = "Depth: 3-D files"


@dataclass(frozen=True, kw_only=True)
class DepthOptions:
    """Options of a command that predicts depth."""

    point_cloud: Literal["ply", "glb"] | None = option(None, group=_SPACE)
    """Also write each depth map in 3-D: colored points (ply), or a surface that web viewers show (glb, needs
    'metaprompts[3d]'). Without one of the next three options, the camera is taken from EXIF, or assumed."""
    fov_x: Annotated[float, Range(0, 180, above=True, below=True)] | None = option(None, group=_SPACE)
    """Horizontal field of view of the camera in degrees."""
    focal_px: Annotated[float, Range(0, 1e9, above=True)] | None = option(None, group=_SPACE)
    """Instead of --fov-x: the camera's focal length in pixels."""
    intrinsics: Path | None = option(None, metavar="FILE", group=_SPACE)
    """Instead of --fov-x: the camera's 3x3 matrix, nine numbers as text, JSON or .npy."""
    edge: Annotated[float, Range(0, 1e9, above=True)] | None = option(None, group=_SPACE)
    """Cut the surface where neighboring pixels differ by more than this fraction of the depth; by default 0.04."""
    intrinsics_of_training: bool = option(False, group=_SPACE)
    """Multiply depth by the image's focal length divided by that of the training images, if the model states it
    (task.focal_px). The camera of each image comes from one of the three options, or EXIF."""

    @cached_property
    def given_depth_options(self) -> list[str]:
        """The names of the options that need a depth model, after a check of all options.

        Raises:
            InputError: the options contradict each other, nothing uses the camera, its matrix cannot be read, or a
                library is missing
        """
        cameras = {"--fov-x": self.fov_x, "--focal-px": self.focal_px, "--intrinsics": self.intrinsics}
        described = [name for name, value in cameras.items() if value is not None]
        if len(described) > 1:
            raise InputError(f"{' and '.join(described)} both describe the camera: pass one of them")
        uses = {"--point-cloud": self.point_cloud, "--intrinsics-of-training": self.intrinsics_of_training or None}
        given = [name for name, value in uses.items() if value is not None]
        if self.edge is not None and self.point_cloud is None:
            raise InputError("--edge requires --point-cloud: add --point-cloud, or omit --edge")
        if described and not given:
            raise InputError(
                f"{described[0]} describes the camera for --point-cloud and --intrinsics-of-training: pass one of them "
                f"too, or omit {described[0]}"
            )
        _ = self._matrix
        if self.point_cloud == "glb" and find_spec("trimesh") is None:
            raise InputError("--point-cloud glb needs trimesh: pip install 'metaprompts[3d]', or pass ply")
        return given

    @cached_property
    def _matrix(self) -> "Intrinsics | None":
        from metaprompts.data.io.intrinsics import read_matrix

        return None if self.intrinsics is None else read_matrix(self.intrinsics)

    def camera_of(self, image: Path, height: int, width: int) -> "Intrinsics | None":
        """The camera of an image, from an option or its EXIF data; None if neither gives it.

        Args:
            image: path of the image
            height: height of the upright image in pixels
            width: width of the upright image in pixels
        """
        from metaprompts.data.io.intrinsics import Intrinsics, exif_intrinsics

        if self.fov_x is not None:
            return Intrinsics.from_fov_x(self.fov_x, height, width)
        if self.focal_px is not None:
            return Intrinsics.from_focal_px(self.focal_px, height, width)
        return self._matrix or exif_intrinsics(image, height, width)

    def depth_writer(self, models: "Sequence[MetaPromptModel]", source: str, *, windows: bool) -> "DepthWriter":
        """Match the options to the models.

        Args:
            models: the models that predict
            source: the models' name in errors
            windows: whether images are predicted at their own size, in windows

        Raises:
            InputError: no model predicts depth, or the depth model does not state its focal length
        """
        depth = next((model for model in models if model.task.name == "depth"), None)
        if depth is None:
            for name in self.given_depth_options:
                task = models[0].task.name
                raise InputError(f"{name} applies only to depth, but {source} predicts {task}: omit {name}")
        if depth is None or not self.intrinsics_of_training:
            return DepthWriter(options=self)
        focal_px = getattr(depth.task, "focal_px", None)
        if focal_px is None:
            raise InputError(
                f"{source} does not state the focal length of its training images (task.focal_px in config.json), so "
                "--intrinsics-of-training cannot rescale: omit it, or correct the depth with metaprompts calibrate"
            )
        return DepthWriter(options=self, focal_px=focal_px, working_size=None if windows else depth.config.working_size)


@dataclass(frozen=True, kw_only=True)
class DepthWriter:
    """Writes depth predictions.

    Attributes:
        options: the cameras, and what to write in 3-D
        focal_px: focal length of the training images, in pixels at the size that the model sees; depth is multiplied by
            each image's focal length divided by this one. None to keep the depth
        working_size: height and width that the model sees; None if images are predicted at their own size
    """

    options: DepthOptions
    focal_px: float | None = None
    working_size: tuple[int, int] | None = None

    def save(
        self, prediction: "DepthPrediction", image: Path, folder: Path, stem: str, *, raw: bool, legend: bool
    ) -> None:
        """Write the files of one image; in 3-D ``STEM_points.ply`` or ``STEM_surface.glb``.

        Raises:
            InputError: the image's camera is unknown, no pixel is left, or a file cannot be written
        """
        from metaprompts.data.io.intrinsics import default_intrinsics
        from metaprompts.utils.progress import report_lines
        from metaprompts.visualize.point_cloud import EDGE

        if self.focal_px is not None:
            prediction, line = self._rescaled(prediction, image, self.focal_px)
            report_lines([line])
        prediction.save(folder, stem, raw=raw, legend=legend)
        if self.options.point_cloud is not None:
            height, width = prediction.depth_m.shape
            camera = self.options.camera_of(image, height, width) or default_intrinsics(height, width)
            name = f"{stem}_points.ply" if self.options.point_cloud == "ply" else f"{stem}_surface.glb"
            edge = EDGE if self.options.edge is None else self.options.edge
            prediction.point_cloud(intrinsics=camera, edge=edge).save(folder / name)
            degrees = camera.fov_x_deg(width)
            report_lines([f"{image}: camera with {degrees:.1f} degrees horizontally ({camera.source})"])

    def _rescaled(self, prediction: "DepthPrediction", image: Path, trained_px: float) -> "tuple[DepthPrediction, str]":
        """Multiply the depth by the ratio of the two focal lengths; also returns a line that describes this."""
        from metaprompts.tasks.preprocess import view_size

        height, width = prediction.depth_m.shape
        camera = self.options.camera_of(image, height, width)
        if camera is None:
            raise InputError(
                f"{image}: the camera is unknown (no focal length in EXIF): pass --fov-x, --focal-px or --intrinsics, "
                "or omit --intrinsics-of-training"
            )
        seen = width if self.working_size is None else view_size(height, width, self.working_size)[1]
        focal_px = camera.focal_x_px * seen / width
        factor = focal_px / trained_px
        line = (
            f"{image}: depth x {factor:.4g}: focal length {focal_px:.1f} px ({camera.source}), "
            f"{trained_px:.1f} px in training, at the size that the model sees"
        )
        return replace(prediction, depth_m=prediction.depth_m * factor), line
