"""The options of ``metaprompts predict`` for depth models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metaprompts.cli.cameras import Cameras, TrainingCamera
from metaprompts.cli.point_clouds import PointClouds
from metaprompts.errors import InputError
from metaprompts.utils.progress import report_lines

if TYPE_CHECKING:
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.tasks.predictions import DepthPrediction


@dataclass(frozen=True, kw_only=True)
class DepthOptions:
    """How depth predictions are processed, besides being saved.

    Attributes:
        clouds: writes point clouds or surfaces; None if not requested
        rescaled: cameras of the images whose depth is rescaled; None if not requested
    """

    clouds: PointClouds | None
    rescaled: Cameras | None

    @classmethod
    def of(cls, point_cloud: str | None, edge: float, cameras: Cameras | None, *, rescale: bool) -> "DepthOptions":
        """Check the options; ``cameras`` is None only if no option needs cameras.

        Raises:
            InputError: a library is missing
        """
        clouds = None
        if point_cloud is not None and cameras is not None:
            clouds = PointClouds(kind=point_cloud, cameras=cameras, edge=edge)
        return cls(clouds=clouds, rescaled=cameras if rescale else None)

    def check_images(self) -> None:
        """Check that no option is given that videos do not support.

        Raises:
            InputError: such an option is given
        """
        for name in self._given():
            raise InputError(f"{name} is for images, but an input is a video: leave it out")

    def open(self, models: "Sequence[MetaPromptModel]", source: str, *, windows: bool) -> "DepthWriter":
        """Match the options to the models.

        Args:
            models: the models that predict
            source: the models' name in errors
            windows: whether images are predicted at their own size, in windows

        Raises:
            InputError: no model predicts depth, or the depth model does not state its focal length
        """
        depth = next((model for model in models if model.task.name == "depth"), None)
        for name in self._given() if depth is None else ():
            raise InputError(f"{name} is for depth; {source} predicts {models[0].task.name}: leave it out")
        camera = None
        if self.rescaled is not None and depth is not None:
            camera = TrainingCamera.of(depth, source, self.rescaled, windows=windows)
        return DepthWriter(clouds=self.clouds, camera=camera)

    def _given(self) -> list[str]:
        given = {"--point-cloud": self.clouds, "--intrinsics-of-training": self.rescaled}
        return [name for name, value in given.items() if value is not None]


@dataclass(frozen=True, kw_only=True)
class DepthWriter:
    """Writes depth predictions.

    Attributes:
        clouds: see `DepthOptions`
        camera: rescales depth; None if not requested
    """

    clouds: PointClouds | None
    camera: TrainingCamera | None

    def save(
        self, prediction: "DepthPrediction", image: Path, folder: Path, stem: str, *, raw: bool, legend: bool
    ) -> None:
        """Write the files of one image.

        Raises:
            InputError: the image's camera is unknown, or a file cannot be written
        """
        if self.camera is not None:
            prediction, line = self.camera.rescaled(prediction, image)
            report_lines([line])
        prediction.save(folder, stem, raw=raw, legend=legend)
        if self.clouds is not None:
            report_lines([self.clouds.save(prediction, image, folder, stem)])
