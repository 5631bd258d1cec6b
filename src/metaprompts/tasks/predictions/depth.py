"""Predicted depth."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.intrinsics import Intrinsics, default_intrinsics
from metaprompts.data.io.large_png import write_png
from metaprompts.errors import InputError
from metaprompts.tasks.predictions.base import NotebookDisplay, check_size, stacked, write_framed, write_raw
from metaprompts.utils.batches import row_bands
from metaprompts.utils.wording import counted
from metaprompts.visualize.depth import color_depth, color_notes, colored_bands, depth_legend, depth_range
from metaprompts.visualize.legends import legend_text_px
from metaprompts.visualize.point_cloud import EDGE, PointCloud

_logger = logging.getLogger(__name__)

# The largest depth that 16-bit millimeters can store.
_FARTHEST_MM = 65535


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
        check_size("depth_m", self.depth_m, self.image)
        if self.valid is not None:
            check_size("valid", self.valid, self.image)

    def show(self, *, legend: bool = True) -> Image.Image:
        """Depth as color, near bright and far dark, with a color bar in meters below unless ``legend`` is off."""
        return stacked(color_depth(self.depth_m, valid=self.valid), self._legend() if legend else None)

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
            write_framed(
                folder / f"{stem}_depth_color.png",
                self.depth_m.shape,
                (band for _, band in colored_bands(self.depth_m, valid=self.valid)),
                self._legend() if legend else None,
            ),
        ]
        return paths + (write_raw(folder, stem, depth=self.depth_m, agreement=self.agreement) if raw else [])

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
