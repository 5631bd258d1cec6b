"""The solids of a world: five unit shapes, each translated, rotated and scaled."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from metaprompts.synthetic.vectors import FORWARD, RIGHT, UP, Vector, turned

Shape = Literal["plane", "box", "ellipsoid", "frustum", "capsule"]
Color = tuple[float, float, float]
Pattern = Literal[
    "plain",
    "checker",
    "tiles",
    "planks",
    "bricks",
    "windows",
    "stripes",
    "bands",
    "leaves",
    "road",
    "glass",
    "painting",
]


@dataclass(frozen=True, kw_only=True)
class Material:
    """The appearance of a surface.

    Attributes:
        color: RGB in [0, 1]
        second: the pattern's other color
        pattern: layout of the two colors
        size: size of the pattern's unit in meters
        grain: variation of brightness between spots
        grain_size: grain size of the spots in meters
        glows: whether the surface emits light instead of being lit
        shine: strength of the highlight
    """

    color: Color
    second: Color = (0.0, 0.0, 0.0)
    pattern: Pattern = "plain"
    size: float = 1.0
    grain: float = 0.0
    grain_size: float = 0.1
    glows: bool = False
    shine: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A unit shape in a frame of three perpendicular directions.

    The unit shapes extend from -1 to 1: plane (y = 0, infinite), box (tapering to ``taper`` at the top), ellipsoid
    (ball), frustum (cylinder along y, tapering to ``taper[0]``), capsule (along y: radius 1, and ``half_length``
    from the middle to each cap's center).

    Attributes:
        shape: which unit shape
        center: center of the frame in meters
        directions: unit vectors of the frame's x, y and z
        sizes: meters per unit along each direction
        material: material of the surface
        taper: width (x) and length (z) at the top, as fractions of those at the bottom
        half_length: half length of a capsule, in units of y
        casts_shadow: whether it casts a shadow
    """

    shape: Shape
    center: Vector
    sizes: tuple[float, float, float]
    material: Material
    directions: tuple[Vector, Vector, Vector] = field(default=(RIGHT, UP, FORWARD))
    taper: tuple[float, float] = (1.0, 1.0)
    half_length: float = 0.0
    casts_shadow: bool = True


def plane(point: Vector, normal: Vector, material: Material) -> Solid:
    """An infinite plane, which casts no shadow."""
    # The frame's x direction stays horizontal, and so do patterns.
    across = RIGHT if abs(normal.y) > 0.9 else UP.cross(normal).unit()
    directions = (across, normal, across.cross(normal))
    return Solid(
        shape="plane", center=point, sizes=(1, 1, 1), directions=directions, material=material, casts_shadow=False
    )


def box(
    center: Vector,
    size: tuple[float, float, float],
    material: Material,
    *,
    yaw_deg: float = 0.0,
    taper: tuple[float, float] = (1.0, 1.0),
) -> Solid:
    """A box of full width, height and length, standing upright."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Solid(shape="box", center=center, sizes=half, material=material, directions=upright(yaw_deg), taper=taper)


def ellipsoid(center: Vector, radii: tuple[float, float, float], material: Material, *, yaw_deg: float = 0.0) -> Solid:
    """An ellipsoid, which is a stretched ball."""
    return Solid(shape="ellipsoid", center=center, sizes=radii, material=material, directions=upright(yaw_deg))


def ball(center: Vector, radius: float, material: Material) -> Solid:
    """A ball."""
    return ellipsoid(center, (radius, radius, radius), material)


def rod(start: Vector, end: Vector, radius: float, material: Material, *, end_radius: float | None = None) -> Solid:
    """A cylinder or cone from one point to another."""
    middle, directions, length = _along(start, end)
    return Solid(
        shape="frustum",
        center=middle,
        sizes=(radius, length / 2, radius),
        directions=directions,
        material=material,
        taper=(1.0 if end_radius is None else end_radius / radius, 1.0),
    )


def limb(start: Vector, end: Vector, radius: float, material: Material, *, depth: float | None = None) -> Solid:
    """A capsule whose caps are centered on two points.

    Args:
        start: center of one cap
        end: center of the other
        radius: radius from side to side
        material: material of the surface
        depth: radius from front to back; None for round
    """
    middle, directions, length = _along(start, end)
    return Solid(
        shape="capsule",
        center=middle,
        sizes=(radius, radius, radius if depth is None else depth),
        directions=directions,
        material=material,
        half_length=length / 2 / radius,
    )


def upright(yaw_deg: float) -> tuple[Vector, Vector, Vector]:
    """Right, up and forward vectors of an upright object that faces ``yaw_deg``."""
    return turned(RIGHT, yaw_deg), UP, turned(FORWARD, yaw_deg)


def _along(start: Vector, end: Vector) -> tuple[Vector, tuple[Vector, Vector, Vector], float]:
    span = end.minus(start)
    length = span.length()
    along = span.times(1 / length)
    across = (UP if abs(along.y) < 0.9 else FORWARD).cross(along).unit()
    return start.plus(span.times(0.5)), (across, along, across.cross(along)), length


def without_shadow(solids: Iterable[Solid]) -> list[Solid]:
    """Mark solids as details that are too small, or too close to larger parts, to cast a visible shadow."""
    return [replace(solid, casts_shadow=False) for solid in solids]


def placed(solids: Iterable[Solid], spot: Vector, yaw_deg: float = 0.0) -> tuple[Solid, ...]:
    """Solids built around the origin, turned around the vertical and moved."""
    return tuple(
        replace(
            solid,
            center=turned(solid.center, yaw_deg).plus(spot),
            directions=tuple(turned(axis, yaw_deg) for axis in solid.directions),  # type: ignore[arg-type]
        )
        for solid in solids
    )
