"""The 3-D options of ``metaprompts predict``."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.cli.cameras import Cameras
    from metaprompts.tasks.predictions import DepthPrediction


@dataclass(frozen=True, kw_only=True)
class PointClouds:
    """Writes a point cloud or surface for each depth prediction.

    Attributes:
        kind: "ply" or "glb"
        cameras: the camera of each image
        edge: see `PointCloud.from_depth`

    Raises:
        InputError: a library is missing
    """

    kind: str
    cameras: "Cameras"
    edge: float

    def __post_init__(self) -> None:
        if self.kind == "glb" and find_spec("trimesh") is None:
            raise InputError("--point-cloud glb needs trimesh: pip install 'metaprompts[3d]', or pass ply")

    def save(self, prediction: "DepthPrediction", image: Path, folder: Path, stem: str) -> str:
        """Write ``STEM_points.ply`` or ``STEM_surface.glb``.

        Returns:
            a line that names the camera

        Raises:
            InputError: no pixel is left, or the file cannot be written
        """
        height, width = prediction.depth_m.shape
        camera = self.cameras.known_or_assumed(image, height, width)
        name = f"{stem}_points.ply" if self.kind == "ply" else f"{stem}_surface.glb"
        prediction.point_cloud(intrinsics=camera, edge=self.edge).save(folder / name)
        return f"{image}: camera with {camera.fov_x_deg(width):.1f} degrees horizontally ({camera.source})"
