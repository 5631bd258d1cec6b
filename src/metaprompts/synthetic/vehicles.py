"""Cars and vans, built around the origin: they stand on y = 0 and drive toward +z."""

from metaprompts.synthetic.colors import mixed, named_color
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.solids import Material, Solid, box, rod, without_shadow
from metaprompts.synthetic.vectors import Vector
from metaprompts.synthetic.world import Thing

_TIRE = Material(color=(0.07, 0.07, 0.08))
_RIM = Material(color=(0.65, 0.66, 0.68), shine=0.3)
_HEADLIGHT = Material(color=(0.98, 0.96, 0.85), glows=True)
_TAILLIGHT = Material(color=(0.75, 0.06, 0.05), glows=True)
_GLASS = (0.16, 0.22, 0.28)


def car(rng: Rng) -> Thing:
    """A sedan, a hatchback or a van."""
    name, color = named_color(rng, ("red", "blue", "green", "yellow", "white", "black", "gray", "orange"))
    paint = Material(color=color, shine=0.45)
    cabin = Material(color=mixed(color, (1, 1, 1), 0.05), second=_GLASS, pattern="glass", shine=0.5)
    if rng.happens(0.2):
        return Thing(label="car", solids=tuple(_van(rng, paint, cabin)), noun="van", detail=name)
    return Thing(label="car", solids=tuple(_sedan(rng, paint, cabin)), noun="car", detail=name)


def _sedan(rng: Rng, paint: Material, cabin: Material) -> list[Solid]:
    long, wide = rng.uniform(3.7, 4.6), rng.uniform(1.68, 1.85)
    hatch = rng.happens(0.5)
    roof_long, back = (0.58 * long, -0.13 * long) if hatch else (0.5 * long, -0.06 * long)
    solids = [
        box(Vector(0, 0.62, 0), (wide, 0.58, long), paint, taper=(0.93, 0.97)),
        box(Vector(0, 1.17, back), (wide * 0.93, 0.56, roof_long), cabin, taper=(0.8, 0.72)),
    ]
    return solids + _wheels(long, wide, 0.33) + _lights(long, wide, 0.68)


def _van(rng: Rng, paint: Material, cabin: Material) -> list[Solid]:
    long, wide, high = rng.uniform(4.6, 5.4), rng.uniform(1.9, 2.05), rng.uniform(1.5, 1.8)
    solids = [
        box(Vector(0, 0.38 + high / 2, -0.45), (wide, high, long - 0.9), paint, taper=(0.95, 0.98)),
        box(Vector(0, 0.68, long / 2 - 0.75), (wide, 0.62, 1.5), paint),
        box(Vector(0, 1.36, long / 2 - 1.0), (wide * 0.95, 0.75, 1.3), cabin, taper=(0.9, 0.5)),
    ]
    return solids + _wheels(long, wide, 0.37) + _lights(long, wide, 0.75)


def _wheels(long: float, wide: float, radius: float) -> list[Solid]:
    solids = []
    for side in (-1, 1):
        for end in (-1, 1):
            inner = Vector(side * (wide / 2 - 0.22), radius, end * long * 0.31)
            solids.append(rod(inner, inner.plus(Vector(side * 0.24, 0, 0)), radius, _TIRE))
            solids.append(rod(inner, inner.plus(Vector(side * 0.25, 0, 0)), radius * 0.55, _RIM))
    return without_shadow(solids)


def _lights(long: float, wide: float, high: float) -> list[Solid]:
    solids = []
    for side in (-1, 1):
        x = side * wide * 0.36
        solids.append(box(Vector(x, high, long / 2 - 0.02), (0.3, 0.16, 0.08), _HEADLIGHT))
        solids.append(box(Vector(x, high, -long / 2 + 0.02), (0.28, 0.16, 0.08), _TAILLIGHT))
    return without_shadow(solids)
