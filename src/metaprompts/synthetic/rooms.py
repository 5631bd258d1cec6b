"""Rooms: four walls, furniture along them and in the middle, lamps, balls, people."""

from metaprompts.synthetic.camera import Camera, looking
from metaprompts.synthetic.colors import NAMED, mixed, named_color, shade
from metaprompts.synthetic.furniture import WOODS, cabinet, floor_lamp, hanging_lamp, sofa, table, toy_ball
from metaprompts.synthetic.people import Figure, random_person
from metaprompts.synthetic.placement import Footprints, footprint_radius
from metaprompts.synthetic.rng import Chance
from metaprompts.synthetic.solids import Material, Pattern, Solid, box, placed, plane, without_shadow
from metaprompts.synthetic.vectors import FORWARD, RIGHT, UP, Vector
from metaprompts.synthetic.world import Light, Sky, Thing, World

_WALL_PATTERNS: tuple[Pattern, ...] = ("plain", "plain", "plain", "stripes", "bricks")
_RUG_PATTERNS: tuple[Pattern, ...] = ("stripes", "checker", "plain", "bands")
_NOWHERE = Sky(zenith=(0.5, 0.5, 0.5), horizon=(0.5, 0.5, 0.5))


def build_room(chance: Chance, height: int, width: int) -> tuple[World, Camera, tuple[Figure, ...], str]:
    """A furnished room seen from its near end.

    Returns:
        the world, the camera, the people, and the beginning of a caption
    """
    half_wide, long, high = chance.uniform(1.9, 3.6), chance.uniform(3.8, 7.5), chance.uniform(2.4, 3.1)
    shell, opening = _shell(chance, half_wide, long, high)
    ground = Footprints()
    # Nothing stands where the camera does.
    ground.take(0.0, 0.4, 0.9)
    things = [*shell, *_along_walls(chance, ground, half_wide, long)]
    things += _in_the_middle(chance, ground, half_wide, long)
    people = _people(chance, ground, half_wide, long)
    things += [figure.thing for figure in people]
    lamp_x, lamp_z = chance.uniform(-0.4, 0.4) * half_wide, chance.uniform(0.4, 0.75) * long
    if chance.happens(0.6):
        hanging = hanging_lamp(chance, high)
        things.append(moved(hanging, Vector(lamp_x, 0, lamp_z), 0.0))
    warmth = chance.uniform(0.0, 0.14)
    light = Light(
        position=Vector(lamp_x, high - 0.15 if chance.happens(0.3) else high - 0.75, lamp_z * chance.uniform(0.5, 0.9)),
        strength=chance.uniform(0.55, 0.8),
        ambient=(0.56, 0.56 - warmth * 0.2, 0.56 - warmth * 0.5),
        color=(1.0, 1.0 - warmth * 0.5, 1.0 - warmth),
        reach_m=chance.uniform(4.0, 7.0),
    )
    camera = looking(
        Vector(chance.uniform(-0.35, 0.35) * half_wide, chance.uniform(1.15, 1.65), chance.uniform(0.1, 0.5)),
        yaw_deg=chance.uniform(-18, 18),
        pitch_deg=chance.uniform(-13, -2),
        opening_deg=chance.uniform(58, 74),
        height=height,
        width=width,
    )
    return World(things=tuple(things), light=light, sky=_NOWHERE), camera, people, opening


def _shell(chance: Chance, half_wide: float, long: float, high: float) -> tuple[list[Thing], str]:
    wall_name, wall_color = named_color(chance, ("white", "gray", "yellow", "green", "blue", "pink", "orange", "brown"))
    pale = mixed(wall_color, (0.95, 0.94, 0.9), chance.uniform(0.35, 0.7))
    pattern = chance.choice(_WALL_PATTERNS)
    wall = Material(
        color=pale, second=mixed(pale, (1, 1, 1), 0.35), pattern=pattern, size=0.3, grain=0.04, grain_size=0.5
    )
    floor_name, floor = _floor(chance)
    ceiling = Material(color=shade(chance, (0.9, 0.9, 0.88), 0.03))
    side = chance.choice((-1.0, 1.0))
    far = Vector(0, 0, long)
    walls: list[Solid] = [
        plane(far, FORWARD.times(-1), wall),
        plane(Vector(-half_wide, 0, 0), RIGHT, wall),
        plane(Vector(half_wide, 0, 0), RIGHT.times(-1), wall),
        plane(Vector(0, 0, -0.6), FORWARD, wall),
    ]
    skirting = Material(color=mixed(pale, (0.3, 0.25, 0.2), 0.6))
    boards = [box(Vector(0, 0.05, long - 0.01), (2 * half_wide, 0.1, 0.03), skirting)]
    boards += [box(Vector(x * (half_wide - 0.01), 0.05, long / 2), (0.03, 0.1, long + 1), skirting) for x in (-1, 1)]
    if chance.happens(0.75):
        walls += _window(chance, side * half_wide * chance.uniform(0.1, 0.5), long)
    if chance.happens(0.75):
        walls += _painting(chance, -side * half_wide * chance.uniform(0.15, 0.6), long)
    walls = [*walls[:4], *without_shadow([*boards, *walls[4:]])]
    floors: list[Solid] = [plane(Vector(0, 0, 0), UP, floor)]
    if chance.happens(0.5):
        floors += without_shadow([_rug(chance, long)])
    things = [
        Thing(label="wall", solids=tuple(walls)),
        Thing(label="floor", solids=tuple(floors)),
        Thing(label="ceiling", solids=(plane(Vector(0, high, 0), UP.times(-1), ceiling),)),
    ]
    return things, f"a room with {wall_name} walls and a {floor_name} floor"


def _floor(chance: Chance) -> tuple[str, Material]:
    kind = chance.choice(("wooden", "wooden", "tiled", "checkered", "carpeted"))
    if kind == "wooden":
        wood = shade(chance, chance.choice(WOODS))
        return kind, Material(
            color=wood,
            second=mixed(wood, (0, 0, 0), 0.45),
            pattern="planks",
            size=0.16,
            grain=0.12,
            grain_size=0.06,
            shine=0.08,
        )
    color = named_color(chance, ("gray", "white", "brown", "blue", "red", "green"))[1]
    if kind == "tiled":
        return kind, Material(
            color=mixed(color, (0.9, 0.9, 0.9), 0.4),
            second=(0.4, 0.4, 0.4),
            pattern="tiles",
            size=chance.uniform(0.35, 0.6),
            shine=0.12,
        )
    if kind == "checkered":
        return kind, Material(
            color=color,
            second=shade(chance, NAMED["white"]),
            pattern="checker",
            size=chance.uniform(0.35, 0.6),
            shine=0.1,
        )
    return kind, Material(color=mixed(color, (0.6, 0.55, 0.5), 0.3), grain=0.2, grain_size=0.05)


def _window(chance: Chance, x: float, long: float) -> list[Solid]:
    wide, high, middle = chance.uniform(0.9, 1.5), chance.uniform(0.9, 1.3), chance.uniform(1.45, 1.65)
    frame = Material(color=(0.93, 0.93, 0.92))
    view = Material(color=(0.55, 0.74, 0.94), second=(0.93, 0.95, 0.97), pattern="painting", size=0.4, glows=True)
    return [
        box(Vector(x, middle, long - 0.02), (wide + 0.14, high + 0.14, 0.05), frame),
        box(Vector(x, middle, long - 0.03), (wide, high, 0.06), view),
        box(Vector(x, middle, long - 0.04), (0.06, high, 0.08), frame),
        box(Vector(x, middle, long - 0.04), (wide, 0.06, 0.08), frame),
    ]


def _painting(chance: Chance, x: float, long: float) -> list[Solid]:
    wide, high = chance.uniform(0.5, 1.1), chance.uniform(0.45, 0.8)
    frame = Material(color=shade(chance, chance.choice(((0.3, 0.2, 0.1), (0.75, 0.62, 0.3), (0.1, 0.1, 0.1)))))
    art = Material(
        color=named_color(chance)[1], second=named_color(chance)[1], pattern="painting", size=chance.uniform(0.1, 0.25)
    )
    return [
        box(Vector(x, 1.6, long - 0.02), (wide + 0.1, high + 0.1, 0.05), frame),
        box(Vector(x, 1.6, long - 0.03), (wide, high, 0.06), art),
    ]


def _rug(chance: Chance, long: float) -> Solid:
    color, other = named_color(chance)[1], named_color(chance)[1]
    pattern = chance.choice(_RUG_PATTERNS)
    material = Material(
        color=color, second=other, pattern=pattern, size=chance.uniform(0.12, 0.3), grain=0.15, grain_size=0.05
    )
    spot = Vector(chance.uniform(-0.5, 0.5), 0.01, long * chance.uniform(0.45, 0.65))
    return box(
        spot, (chance.uniform(1.4, 2.4), 0.02, chance.uniform(1.0, 1.9)), material, yaw_deg=chance.uniform(-15, 15)
    )


def _along_walls(chance: Chance, ground: Footprints, half_wide: float, long: float) -> list[Thing]:
    """Furniture with its back to the far wall or to a side wall."""
    things = []
    makers = chance.shuffled((cabinet, cabinet, sofa, sofa, floor_lamp, floor_lamp))[: chance.whole(2, 5)]
    for maker in makers:
        thing = maker(chance)
        radius = footprint_radius(thing)
        depth = max(solid.center.z + solid.sizes[2] for solid in thing.solids)
        depth = max(depth, -min(solid.center.z - solid.sizes[2] for solid in thing.solids)) + 0.06
        for _ in range(8):
            wall = chance.choice(("far", "far", "left", "right"))
            if wall == "far":
                x, z, yaw = chance.uniform(-1, 1) * max(half_wide - radius, 0), long - depth, 180.0
            else:
                sign = -1.0 if wall == "left" else 1.0
                x, z, yaw = sign * (half_wide - depth), chance.uniform(0.4, 0.85) * long, -90.0 * sign
            if ground.take(x, z, radius * 0.85):
                things.append(moved(thing, Vector(x, 0, z), yaw))
                break
    return things


def _in_the_middle(chance: Chance, ground: Footprints, half_wide: float, long: float) -> list[Thing]:
    things = []
    makers = [table] * (1 if chance.happens(0.75) else 0) + [toy_ball] * chance.whole(0, 3)
    for maker in makers:
        thing = maker(chance)
        radius = footprint_radius(thing)
        for _ in range(8):
            x = chance.uniform(-1, 1) * max(half_wide - radius - 0.1, 0)
            z = chance.uniform(1.6, max(long - radius - 0.3, 1.7))
            if ground.take(x, z, radius):
                things.append(moved(thing, Vector(x, 0, z), chance.uniform(-30, 30)))
                break
    return things


def _people(chance: Chance, ground: Footprints, half_wide: float, long: float) -> tuple[Figure, ...]:
    people = []
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3))):
        for _ in range(8):
            x, z = chance.uniform(-0.8, 0.8) * half_wide, chance.uniform(1.9, max(long - 0.5, 2.0))
            if ground.take(x, z, 0.32):
                people.append(random_person(chance, Vector(x, 0, z), 180 + chance.uniform(-110, 110)))
                break
    return tuple(people)


def moved(thing: Thing, spot: Vector, yaw_deg: float) -> Thing:
    """A thing built around the origin, turned and put somewhere."""
    return Thing(label=thing.label, solids=placed(thing.solids, spot, yaw_deg), noun=thing.noun, detail=thing.detail)
