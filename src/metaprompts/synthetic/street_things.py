"""Buildings, trees, poles and signs, built around the origin on y = 0."""

from metaprompts.synthetic.colors import NAMED, mixed, named_color, shade
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.solids import Color, Material, Solid, box, ellipsoid, rod, without_shadow
from metaprompts.synthetic.vectors import Vector
from metaprompts.synthetic.world import Thing

FACADES: tuple[tuple[str, Color], ...] = (
    ("brick", (0.6, 0.3, 0.22)),
    ("white", (0.86, 0.85, 0.81)),
    ("yellow", (0.87, 0.75, 0.48)),
    ("gray", (0.58, 0.58, 0.58)),
    ("pink", (0.84, 0.62, 0.58)),
    ("green", (0.52, 0.64, 0.52)),
    ("brown", (0.55, 0.42, 0.32)),
)
_LEAVES: tuple[Color, ...] = ((0.13, 0.36, 0.12), (0.2, 0.44, 0.14), (0.28, 0.5, 0.18), (0.1, 0.3, 0.17))
_AUTUMN: tuple[Color, ...] = ((0.72, 0.42, 0.1), (0.66, 0.24, 0.1), (0.76, 0.6, 0.16))
_BARK = Material(color=(0.32, 0.23, 0.16), grain=0.3, grain_size=0.1)


def building(rng: Rng, facing: float, wide: float, facade: tuple[str, Color]) -> Thing:
    """A house in a row along a street.

    Args:
        rng: random number generator
        facing: the street's side: 1 if the street lies toward +x, -1 if toward -x
        wide: width along the street (z) in meters
        facade: name and color of the facade
    """
    color = facade[1]
    high, deep = rng.uniform(5.5, 17), 10.0
    color = shade(rng, color)
    panes = mixed((0.2, 0.26, 0.33), (0.75, 0.85, 0.95), rng.uniform(0, 0.5))
    wall = Material(
        color=color, second=panes, pattern="windows", size=rng.uniform(1.9, 2.9), grain=0.08, grain_size=0.6
    )
    middle = -facing * deep / 2
    solids = [box(Vector(middle, high / 2, 0), (deep, high, wide), wall)]
    trim = Material(color=mixed(color, (1, 1, 1), 0.4))
    if rng.happens(0.45):
        roof = Material(
            color=shade(rng, rng.choice(((0.5, 0.22, 0.16), (0.3, 0.3, 0.34)))),
            second=(0.15, 0.12, 0.12),
            pattern="bands",
            size=0.25,
        )
        solids.append(box(Vector(middle, high + 1.2, 0), (deep + 0.5, 2.4, wide), roof, taper=(0.05, 1.0)))
    else:
        solids += without_shadow([box(Vector(middle, high + 0.15, 0), (deep + 0.5, 0.35, wide), trim)])
    if rng.happens(0.6):
        solids += _shop(rng, facing, wide)
    return Thing(label="building", solids=tuple(solids))


def _shop(rng: Rng, facing: float, wide: float) -> list[Solid]:
    dark = Material(color=(0.14, 0.16, 0.2), second=(0.5, 0.42, 0.3), pattern="painting", size=1.1)
    awning = Material(color=named_color(rng)[1], second=shade(rng, NAMED["white"]), pattern="stripes", size=0.4)
    solids = without_shadow([box(Vector(facing * 0.03, 1.25, 0), (0.1, 2.2, wide * 0.8), dark)])
    if rng.happens(0.7):
        solids.append(box(Vector(facing * 0.6, 2.75, 0), (1.3, 0.5, wide * 0.8), awning, taper=(0.2, 1.0)))
    return solids


def shop_sign(rng: Rng, facing: float) -> Thing:
    """A board that projects from a wall."""
    name, color = named_color(rng, ("red", "blue", "green", "yellow", "white", "orange", "black"))
    board = Material(
        color=color, second=shade(rng, NAMED["white" if name != "white" else "red"]), pattern="bands", size=0.22
    )
    solid = box(Vector(facing * 0.6, rng.uniform(3.2, 4.0), 0), (1.0, rng.uniform(0.8, 1.5), 0.14), board)
    return Thing(label="sign", solids=(solid,), noun="sign", detail=name)


def tree(rng: Rng) -> Thing:
    """A tree with a crown of leaves, or a fir."""
    is_fir = rng.happens(0.25)
    autumn = not is_fir and rng.happens(0.15)
    color = shade(rng, rng.choice(_AUTUMN if autumn else _LEAVES))
    leaves = Material(
        color=mixed(color, (0, 0, 0), 0.45), second=mixed(color, (0.8, 0.85, 0.3), 0.3), pattern="leaves", size=0.5
    )
    if is_fir:
        return Thing(label="tree", solids=tuple(_fir(rng, leaves)), noun="fir")
    trunk, spread = rng.uniform(1.7, 2.8), rng.uniform(1.0, 1.7)
    solids = [rod(Vector(0, 0, 0), Vector(0, trunk + spread * 0.6, 0), rng.uniform(0.13, 0.22), _BARK, end_radius=0.1)]
    solids.append(ellipsoid(Vector(0, trunk + spread * 0.8, 0), (spread, spread * 1.05, spread), leaves))
    for _ in range(rng.whole(1, 3)):
        shift = Vector(
            rng.uniform(-0.6, 0.6) * spread,
            trunk + spread * rng.uniform(0.4, 1.5),
            rng.uniform(-0.6, 0.6) * spread,
        )
        size = spread * rng.uniform(0.5, 0.75)
        solids.append(ellipsoid(shift, (size, size * 0.9, size), leaves))
    return Thing(label="tree", solids=tuple(solids), noun="autumn tree" if autumn else "tree")


def _fir(rng: Rng, leaves: Material) -> list[Solid]:
    high, radius = rng.uniform(3.5, 6.0), rng.uniform(1.0, 1.5)
    solids = [rod(Vector(0, 0, 0), Vector(0, high * 0.4, 0), 0.15, _BARK)]
    for level in range(3):
        low = high * (0.15 + 0.24 * level)
        width = radius * (1 - 0.25 * level)
        solids.append(rod(Vector(0, low, 0), Vector(0, low + high * 0.38, 0), width, leaves, end_radius=0.05 * width))
    return solids


def hedge(rng: Rng, long: float) -> Thing:
    """A low row of bushes."""
    color = shade(rng, rng.choice(_LEAVES))
    leaves = Material(
        color=mixed(color, (0, 0, 0), 0.4), second=mixed(color, (0.7, 0.8, 0.3), 0.3), pattern="leaves", size=0.3
    )
    high = rng.uniform(0.8, 1.4)
    return Thing(label="tree", solids=(box(Vector(0, high / 2, 0), (0.9, high, long), leaves),), noun="hedge")


def street_lamp(rng: Rng, facing: float) -> Thing:
    """A tall pole with an arm over the road."""
    color = shade(rng, rng.choice((NAMED["gray"], (0.2, 0.25, 0.22), (0.3, 0.3, 0.32))))
    metal = Material(color=color, shine=0.2)
    high, radius = rng.uniform(4.5, 6.5), rng.uniform(0.08, 0.12)
    arm = Vector(facing * 1.2, high + 0.15, 0)
    solids = (
        rod(Vector(0, 0, 0), Vector(0, high, 0), radius, metal, end_radius=radius * 0.7),
        rod(Vector(0, high, 0), arm, radius * 0.6, metal),
        box(arm, (0.7, 0.14, 0.28), Material(color=(0.85, 0.85, 0.8))),
        rod(Vector(0, 0, 0), Vector(0, 0.7, 0), radius * 1.6, metal),
    )
    return Thing(label="pole", solids=solids, noun="street lamp")


def bollard(rng: Rng) -> Thing:
    """A short post."""
    paint = Material(
        color=named_color(rng, ("red", "black", "gray", "yellow"))[1],
        second=NAMED["white"],
        pattern="bands",
        size=0.22,
    )
    high = rng.uniform(0.8, 1.1)
    return Thing(label="pole", solids=(rod(Vector(0, 0, 0), Vector(0, high, 0), 0.1, paint),), noun="post")


def traffic_sign(rng: Rng) -> tuple[Thing, Thing]:
    """A plate on a pole; the plate faces the viewer (-z)."""
    name, color = named_color(rng, ("red", "blue", "yellow", "green"))
    high, size = rng.uniform(2.2, 2.9), rng.uniform(0.36, 0.5)
    metal = Material(color=(0.55, 0.56, 0.58), shine=0.2)
    post = Thing(label="pole", solids=(rod(Vector(0, 0, 0), Vector(0, high, 0), 0.055, metal),))
    edge, face = Material(color=color), Material(color=shade(rng, NAMED["white"]))
    front, back = Vector(0, high, -0.08), Vector(0, high, -0.04)
    nearer = Vector(0, high, -0.1)
    if rng.happens(0.5):
        plate = [rod(back, front, size, edge)]
        if name == "red" or rng.happens(0.3):
            plate.append(rod(front, nearer, size * 0.7, face))
        else:
            plate.append(box(nearer, (size * 1.2, size * 0.35, 0.03), face))
    else:
        plate = [box(front, (size * 1.8, size * 1.8, 0.05), edge), box(nearer, (size * 1.2, size * 0.5, 0.03), face)]
    return post, Thing(label="sign", solids=tuple(plate), noun="sign", detail=name)
