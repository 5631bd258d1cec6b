"""Furniture. Each piece is built around the origin, stands on y = 0 and faces away from the viewer (+z)."""

from metaprompts.synthetic.colors import NAMED, mixed, named_color, shade
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.solids import Color, Material, Pattern, Solid, ball, box, ellipsoid, rod, without_shadow
from metaprompts.synthetic.vectors import Vector
from metaprompts.synthetic.world import Thing

_BALL_PATTERNS: tuple[Pattern, ...] = ("plain", "plain", "bands", "checker")
WOODS: tuple[Color, ...] = ((0.62, 0.43, 0.26), (0.45, 0.29, 0.17), (0.75, 0.6, 0.42), (0.32, 0.2, 0.13))


def table(rng: Rng) -> Thing:
    """A table with four legs, or a round table on a pedestal; sometimes with an object on it."""
    name, material = _wood_or_paint(rng)
    high, wide, long = rng.uniform(0.62, 0.78), rng.uniform(1.0, 1.8), rng.uniform(0.7, 1.0)
    if rng.happens(0.35):
        radius = wide * 0.4
        solids = [
            rod(Vector(0, high - 0.06, 0), Vector(0, high, 0), radius, material),
            rod(Vector(0, 0.03, 0), Vector(0, high, 0), 0.06, material),
            rod(Vector(0, 0, 0), Vector(0, 0.05, 0), radius * 0.6, material),
        ]
    else:
        solids = [box(Vector(0, high - 0.03, 0), (wide, 0.07, long), material)]
        for x in (-1, 1):
            for z in (-1, 1):
                foot = Vector(x * (wide / 2 - 0.07), high / 2 - 0.03, z * (long / 2 - 0.07))
                solids.append(box(foot, (0.08, high - 0.06, 0.08), material))
    if rng.happens(0.6):
        solids += _vase(rng, high)
    return Thing(label="table", solids=tuple(solids), noun="table", detail=name)


def _vase(rng: Rng, high: float) -> list[Solid]:
    material = Material(color=named_color(rng)[1], shine=0.3)
    x, tall = rng.uniform(-0.3, 0.3), rng.uniform(0.15, 0.3)
    leaves = Material(color=(0.1, 0.35, 0.1), second=(0.35, 0.6, 0.2), pattern="leaves", size=0.06)
    return [
        rod(Vector(x, high, 0), Vector(x, high + tall, 0), 0.09, material, end_radius=0.05),
        ellipsoid(Vector(x, high + tall + 0.13, 0), (0.15, 0.16, 0.15), leaves),
    ]


def sofa(rng: Rng) -> Thing:
    """A sofa or an armchair with cushions."""
    name, color = named_color(rng)
    cloth = Material(color=color, grain=0.12, grain_size=0.04)
    seats = rng.choice((1, 2, 2, 3))
    wide, arm, deep = 0.35 + 0.62 * seats, 0.17, rng.uniform(0.8, 0.95)
    seat, back = rng.uniform(0.38, 0.45), rng.uniform(0.75, 0.92)
    solids = [
        box(Vector(0, seat / 2 + 0.02, 0), (wide, seat - 0.04, deep), cloth),
        box(Vector(0, back / 2, -deep / 2 + 0.1), (wide, back, 0.22), cloth),
    ]
    for side in (-1, 1):
        solids.append(box(Vector(side * (wide - arm) / 2, 0.31, 0), (arm, 0.62, deep), cloth))
    pillow = Material(color=mixed(color, (1, 1, 1), 0.25), grain=0.1, grain_size=0.05)
    for place in range(seats):
        x = (place - (seats - 1) / 2) * 0.62
        solids.append(box(Vector(x, seat + 0.06, 0.07), (0.59, 0.13, deep - 0.28), pillow))
    if rng.happens(0.6):
        bright = Material(color=named_color(rng)[1], second=NAMED["white"], pattern="stripes", size=0.06)
        x = rng.choice((-1, 1)) * (wide / 2 - arm - 0.2)
        solids.append(ellipsoid(Vector(x, seat + 0.3, -deep / 2 + 0.3), (0.22, 0.2, 0.1), bright))
    return Thing(label="sofa", solids=tuple(solids), noun="sofa" if seats > 1 else "armchair", detail=name)


def cabinet(rng: Rng) -> Thing:
    """A cabinet with doors, drawers, or shelves full of books."""
    name, material = _wood_or_paint(rng)
    wide, high, deep = rng.uniform(0.8, 1.7), rng.uniform(0.75, 2.1), rng.uniform(0.38, 0.5)
    solids = [box(Vector(0, high / 2, 0), (wide, high, deep), material)]
    front = deep / 2 + 0.01
    if high > 1.2 and rng.happens(0.5):
        for shelf in range(int(high / 0.4)):
            books = Material(color=named_color(rng)[1], second=named_color(rng)[1], pattern="stripes", size=0.05)
            filled = box(Vector(0, 0.24 + shelf * 0.4, front), (wide - 0.12, 0.28, 0.02), books)
            solids += without_shadow([filled])
        return Thing(label="cabinet", solids=tuple(solids), noun="bookshelf", detail=name)
    panel = Material(
        color=mixed(material.color, (1, 1, 1), 0.12),
        second=material.second,
        pattern=material.pattern,
        size=material.size,
    )
    knob = Material(color=(0.8, 0.72, 0.4), shine=0.5)
    columns, rows = rng.choice((2, 2, 3)), 1 if high > 1.1 else rng.choice((1, 2, 3))
    for column in range(columns):
        for row in range(rows):
            x, y = (column - (columns - 1) / 2) * wide / columns, (row + 0.5) * high / rows
            door = box(Vector(x, y, front), (wide / columns - 0.05, high / rows - 0.06, 0.03), panel)
            solids += without_shadow([door, ball(Vector(x, y, front + 0.03), 0.025, knob)])
    return Thing(label="cabinet", solids=tuple(solids), noun="cabinet", detail=name)


def floor_lamp(rng: Rng) -> Thing:
    """A lamp on a stand, with a lit shade."""
    name, color = named_color(rng, ("white", "yellow", "orange", "red", "green", "blue", "pink"))
    metal = Material(color=shade(rng, NAMED[rng.choice(("black", "gray", "brown"))]), shine=0.3)
    high, radius = rng.uniform(1.3, 1.75), rng.uniform(0.2, 0.3)
    glowing = Material(color=mixed(color, (1.0, 0.95, 0.75), 0.45), glows=True)
    solids = (
        rod(Vector(0, 0, 0), Vector(0, 0.04, 0), 0.17, metal),
        rod(Vector(0, 0, 0), Vector(0, high, 0), 0.03, metal),
        rod(Vector(0, high - 0.08, 0), Vector(0, high + 0.3, 0), radius, glowing, end_radius=radius * 0.62),
    )
    return Thing(label="lamp", solids=solids, noun="lamp", detail=name)


def hanging_lamp(rng: Rng, ceiling_m: float) -> Thing:
    """A lamp that hangs from the ceiling."""
    name, color = named_color(rng, ("white", "yellow", "orange", "red", "green", "blue"))
    cord = rng.uniform(0.25, 0.6)
    glowing = Material(color=mixed(color, (1.0, 0.97, 0.85), 0.5), glows=True)
    low = ceiling_m - cord
    line = rod(Vector(0, low, 0), Vector(0, ceiling_m, 0), 0.015, Material(color=(0.15, 0.15, 0.15)))
    if rng.happens(0.5):
        shade_ = ball(Vector(0, low - 0.1, 0), rng.uniform(0.17, 0.26), glowing)
    else:
        shade_ = rod(Vector(0, low - 0.22, 0), Vector(0, low, 0), rng.uniform(0.25, 0.36), glowing, end_radius=0.07)
    # The room's light is at the same position, so that a shadow of the lamp would darken half the ceiling.
    return Thing(label="lamp", solids=tuple(without_shadow([line, shade_])), noun="hanging lamp", detail=name)


def toy_ball(rng: Rng) -> Thing:
    """A ball on the floor."""
    name, color = named_color(rng)
    radius = rng.uniform(0.13, 0.36)
    pattern = rng.choice(_BALL_PATTERNS)
    material = Material(color=color, second=shade(rng, NAMED["white"]), pattern=pattern, size=radius / 2.5, shine=0.35)
    return Thing(label="ball", solids=(ball(Vector(0, radius, 0), radius, material),), noun="ball", detail=name)


def _wood_or_paint(rng: Rng) -> tuple[str, Material]:
    if rng.happens(0.6):
        wood = shade(rng, rng.choice(WOODS))
        return "wooden", Material(
            color=wood, second=mixed(wood, (0, 0, 0), 0.35), pattern="planks", size=0.14, grain=0.1, grain_size=0.05
        )
    name, color = named_color(rng, ("white", "black", "gray", "red", "blue", "green", "yellow"))
    return name, Material(color=color, shine=0.1)
