"""The 3-D options of ``metaprompts predict``."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.data.io.intrinsics import Intrinsics
    from metaprompts.tasks.predictions import DepthPrediction


@dataclass(frozen=True, kw_only=True)
class PointClouds:
    """Writes a point cloud or surface for each depth prediction.

    Attributes:
        kind: "ply" or "glb"
        fov_x_deg: horizontal field of view of all images, degrees; None if unknown
        focal_px: focal length of all images, pixels; None if unknown
        intrinsics: the camera of all images, from a matrix; None if unknown
        edge: see `PointCloud.from_depth`
    """

    kind: str
    fov_x_deg: float | None
    focal_px: float | None
    intrinsics: "Intrinsics | None"
    edge: float

    @classmethod
    def of(
        cls, kind: str | None, fov_x_deg: float | None, focal_px: float | None, intrinsics: Path | None, edge: float
    ) -> "PointClouds | None":
        """Check the options; None if no 3-D files are requested.

        Raises:
            InputError: camera options contradict each other, the matrix cannot be read, or a library is missing
        """
        cameras = {"--fov-x": fov_x_deg, "--focal-px": focal_px, "--intrinsics": intrinsics}
        given = [name for name, value in cameras.items() if value is not None]
        if kind is None:
            if given:
                raise InputError(f"{given[0]} is for 3-D files: pass --point-cloud ply or glb as well, or leave it out")
            return None
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} both describe the camera: pass one of them")
        if kind == "glb" and find_spec("trimesh") is None:
            raise InputError("--point-cloud glb needs trimesh: pip install 'metaprompts[3d]', or pass ply")
        from metaprompts.data.io.intrinsics import read_matrix

        camera = None if intrinsics is None else read_matrix(intrinsics)
        return cls(kind=kind, fov_x_deg=fov_x_deg, focal_px=focal_px, intrinsics=camera, edge=edge)

    def save(self, prediction: "DepthPrediction", image: Path, folder: Path, stem: str) -> str:
        """Write ``STEM_points.ply`` or ``STEM_surface.glb``.

        Returns:
            a line that describes the camera

        Raises:
            InputError: no pixel remains, or the file cannot be written
        """
        height, width = prediction.depth_m.shape
        camera = self._camera(image, height, width)
        name = f"{stem}_points.ply" if self.kind == "ply" else f"{stem}_surface.glb"
        prediction.point_cloud(intrinsics=camera, edge=self.edge).save(folder / name)
        return f"{image}: camera with {camera.fov_x_deg(width):.1f} degrees horizontally ({camera.source})"

    def _camera(self, image: Path, height: int, width: int) -> "Intrinsics":
        from metaprompts.data.io.intrinsics import Intrinsics, default_intrinsics, exif_intrinsics

        if self.fov_x_deg is not None:
            return Intrinsics.from_fov_x(self.fov_x_deg, height, width)
        if self.focal_px is not None:
            return Intrinsics.from_focal_px(self.focal_px, height, width)
        if self.intrinsics is not None:
            return self.intrinsics
        return exif_intrinsics(image, height, width) or default_intrinsics(height, width)
