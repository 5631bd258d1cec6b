"""Depth as 3-D: a colored point cloud (PLY) or surface (GLB)."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.intrinsics import Intrinsics
from metaprompts.errors import InputError
from metaprompts.utils.files import write_whole

EDGE = 0.04
"""Default relative depth step between neighboring pixels at which the surface is cut."""

# Viewers in a browser become slow if a surface has more pixels than this.
_MOST_VERTICES = 1_000_000
_LARGEST_TEXTURE = 4096
# Files have x to the right, y up and z toward the viewer, as glTF prescribes and viewers of PLY expect.
_FILE_AXES = np.array([1, -1, -1], np.float32)
_PLY_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
_PLY_HEADER = """ply
format binary_little_endian 1.0
comment meters; x right, y up, z toward the viewer; camera at the origin
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class PointCloud:
    """The pixels of a depth map as 3-D points.

    Attributes:
        points_m: (H, W, 3) float32, meters: x right, y down, z forward from the camera
        colors: (H, W, 3) uint8 RGB
        kept: (H, W) bool, False where there is no depth, and at depth edges
        intrinsics: the camera that was used to compute the points
    """

    points_m: NDArray[np.float32]
    colors: NDArray[np.uint8]
    kept: NDArray[np.bool_]
    intrinsics: Intrinsics

    @classmethod
    def from_depth(
        cls,
        depth_m: NDArray[np.float32],
        colors: NDArray[np.uint8],
        intrinsics: Intrinsics,
        *,
        valid: NDArray[np.bool_] | None = None,
        edge: float | None = EDGE,
    ) -> "PointCloud":
        """Place every pixel at its depth.

        Args:
            depth_m: (H, W) meters along the camera's axis
            colors: (H, W, 3) uint8 RGB
            intrinsics: the camera
            valid: (H, W) bool, pixels with a depth; None for all pixels whose depth is finite and above 0
            edge: drop pixels whose depth differs from that of a neighbor by more than this fraction of the nearer
                depth, because they lie between two surfaces and would float in mid-air; None keeps all

        Raises:
            InputError: edge is not positive
        """
        if edge is not None and not edge > 0:
            raise InputError(f"edge is {edge}; expected more than 0")
        height, width = depth_m.shape
        kept = np.isfinite(depth_m) & (depth_m > 0)
        if valid is not None:
            kept &= valid
        if edge is not None:
            kept &= ~depth_edges(depth_m, edge)
        x = (np.arange(width, dtype=np.float32) - intrinsics.center_x_px) / intrinsics.focal_x_px
        y = (np.arange(height, dtype=np.float32)[:, None] - intrinsics.center_y_px) / intrinsics.focal_y_px
        points = np.stack([x * depth_m, y * depth_m, depth_m], axis=-1).astype(np.float32)
        return cls(points_m=points, colors=colors, kept=kept, intrinsics=intrinsics)

    def __len__(self) -> int:
        return int(self.kept.sum())

    def save(self, path: str | Path) -> Path:
        """Write the points (.ply), or the surface through them (.glb), which needs ``pip install 'metaprompts[3d]'``.

        Files have x to the right, y up and z toward the viewer, in meters. A surface of more than a million pixels is
        written at a lower resolution.

        Raises:
            InputError: the suffix is neither .ply nor .glb, there is nothing to write, trimesh is not installed, or the
                file cannot be written
        """
        path = Path(path)
        if not self.kept.any():
            raise InputError(f"{path}: no pixel has a depth, or all are at depth edges; pass a larger edge")
        if path.suffix == ".ply":
            content = self._ply()
        elif path.suffix == ".glb":
            content = self._glb()
        else:
            raise InputError(f"{path} ends in {path.suffix!r}; expected .ply or .glb")
        with write_whole(path) as scratch:
            scratch.write_bytes(content)
        return path

    def _ply(self) -> bytes:
        vertices = np.empty(len(self), _PLY_VERTEX)
        vertices["xyz"] = self.points_m[self.kept] * _FILE_AXES
        vertices["rgb"] = self.colors[self.kept]
        return _PLY_HEADER.format(count=len(vertices)).encode("ascii") + vertices.tobytes()

    def _glb(self) -> bytes:
        try:
            import trimesh
        except ImportError as error:
            raise InputError("GLB files need trimesh: pip install 'metaprompts[3d]', or write .ply") from error
        step = int(np.ceil(np.sqrt(self.kept.size / _MOST_VERTICES)))
        points, kept = self.points_m[::step, ::step], self.kept[::step, ::step]
        used, faces = _surface(kept)
        if not len(faces):
            raise InputError(
                "no 2x2 block of pixels remains to form a surface: use a larger edge threshold, or write .ply"
            )
        # Vertex colors in glTF are linear, and viewers would show them too bright; a texture looks like the photo.
        rows, columns = np.nonzero(used)
        places = np.stack([(columns + 0.5) / used.shape[1], 1 - (rows + 0.5) / used.shape[0]], axis=-1)
        image = Image.fromarray(self.colors)
        image.thumbnail((_LARGEST_TEXTURE, _LARGEST_TEXTURE))
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0)
        mesh = trimesh.Trimesh(
            vertices=points[used] * _FILE_AXES,
            faces=faces,
            visual=trimesh.visual.TextureVisuals(uv=places, material=material),
            process=False,
        )
        file = io.BytesIO()
        mesh.export(file, file_type="glb")
        return file.getvalue()


def depth_edges(depth_m: NDArray[np.float32], edge: float) -> NDArray[np.bool_]:
    """(H, W) bool: pixels with a neighbor whose depth differs by more than a fraction of the nearer one."""
    found = np.zeros(depth_m.shape, np.bool_)
    for ahead, behind in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        one, other = depth_m[ahead], depth_m[behind]
        with np.errstate(invalid="ignore"):
            steps = np.abs(one - other) > edge * np.minimum(one, other)
        found[ahead] |= steps
        found[behind] |= steps
    return found


def _surface(kept: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The pixels that a surface uses, (H, W) bool, and the triangles, (F, 3), as indices of these pixels.

    Two triangles for each square of four kept pixels, facing the camera.
    """
    squares = kept[:-1, :-1] & kept[1:, :-1] & kept[:-1, 1:] & kept[1:, 1:]
    used = np.zeros(kept.shape, np.bool_)
    for corner in (np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[:-1, 1:], np.s_[1:, 1:]):
        used[corner] |= squares
    numbers = np.cumsum(used.ravel()).reshape(kept.shape) - 1
    top_left, top_right = numbers[:-1, :-1][squares], numbers[:-1, 1:][squares]
    bottom_left, bottom_right = numbers[1:, :-1][squares], numbers[1:, 1:][squares]
    faces = [(top_left, bottom_left, top_right), (top_right, bottom_left, bottom_right)]
    return used, np.concatenate([np.stack(face, axis=-1) for face in faces])
