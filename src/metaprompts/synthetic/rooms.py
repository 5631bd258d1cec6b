"""Rooms: four walls, furniture along the walls and in the middle, lamps, balls, people."""

from metaprompts.synthetic.camera import Camera, camera_from_angles
from metaprompts.synthetic.colors import NAMED, mixed, named_color, shade
from metaprompts.synthetic.furniture import WOODS, cabinet, floor_lamp, hanging_lamp, sofa, table, toy_ball
from metaprompts.synthetic.people import Figure, random_person
from metaprompts.synthetic.placement import Footprints, footprint_radius
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.solids import Material, Pattern, Solid, box, placed, plane, without_shadow
from metaprompts.synthetic.vectors import FORWARD, RIGHT, UP, Vector
from metaprompts.synthetic.world import Light, Sky, Thing, World

_WALL_PATTERNS: tuple[Pattern, ...] = ("plain", "plain", "plain", "stripes", "bricks")
_RUG_PATTERNS: tuple[Pattern, ...] = ("stripes", "checker", "plain", "bands")
_NOWHERE = Sky(zenith=(0.5, 0.5, 0.5), horizon=(0.5, 0.5, 0.5))


def build_room(rng: Rng, height: int, width: int) -> tuple[World, Camera, tuple[Figure, ...], str]:
    """A furnished room, seen from its near end.

    Returns:
        the world, the camera, the people, and the beginning of a caption
    """
    half_wide, long, high = rng.uniform(1.9, 3.6), rng.uniform(3.8, 7.5), rng.uniform(2.4, 3.1)
    shell, opening = _shell(rng, half_wide, long, high)
    ground = Footprints()
    # Nothing is placed at the camera.
    ground.take(0.0, 0.4, 0.9)
    things = [*shell, *_along_walls(rng, ground, half_wide, long)]
    things += _in_the_middle(rng, ground, half_wide, long)
    people = _people(rng, ground, half_wide, long)
    things += [figure.thing for figure in people]
    lamp_x, lamp_z = rng.uniform(-0.4, 0.4) * half_wide, rng.uniform(0.4, 0.75) * long
    if rng.happens(0.6):
        hanging = hanging_lamp(rng, high)
        things.append(moved(hanging, Vector(lamp_x, 0, lamp_z), 0.0))
    warmth = rng.uniform(0.0, 0.14)
    light = Light(
        position=Vector(lamp_x, high - 0.15 if rng.happens(0.3) else high - 0.75, lamp_z * rng.uniform(0.5, 0.9)),
        strength=rng.uniform(0.55, 0.8),
        ambient=(0.56, 0.56 - warmth * 0.2, 0.56 - warmth * 0.5),
        color=(1.0, 1.0 - warmth * 0.5, 1.0 - warmth),
        reach_m=rng.uniform(4.0, 7.0),
    )
    camera = camera_from_angles(
        Vector(rng.uniform(-0.35, 0.35) * half_wide, rng.uniform(1.15, 1.65), rng.uniform(0.1, 0.5)),
        yaw_deg=rng.uniform(-18, 18),
        pitch_deg=rng.uniform(-13, -2),
        opening_deg=rng.uniform(58, 74),
        height=height,
        width=width,
    )
    return World(things=tuple(things), light=light, sky=_NOWHERE), camera, people, opening


def _shell(rng: Rng, half_wide: float, long: float, high: float) -> tuple[list[Thing], str]:
    wall_name, wall_color = named_color(rng, ("white", "gray", "yellow", "green", "blue", "pink", "orange", "brown"))
    pale = mixed(wall_color, (0.95, 0.94, 0.9), rng.uniform(0.35, 0.7))
    pattern = rng.choice(_WALL_PATTERNS)
    wall = Material(
        color=pale, second=mixed(pale, (1, 1, 1), 0.35), pattern=pattern, size=0.3, grain=0.04, grain_size=0.5
    )
    floor_name, floor = _floor(rng)
    ceiling = Material(color=shade(rng, (0.9, 0.9, 0.88), 0.03))
    side = rng.choice((-1.0, 1.0))
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
    if rng.happens(0.75):
        walls += _window(rng, side * half_wide * rng.uniform(0.1, 0.5), long)
    if rng.happens(0.75):
        walls += _painting(rng, -side * half_wide * rng.uniform(0.15, 0.6), long)
    walls = [*walls[:4], *without_shadow([*boards, *walls[4:]])]
    floors: list[Solid] = [plane(Vector(0, 0, 0), UP, floor)]
    if rng.happens(0.5):
        floors += without_shadow([_rug(rng, long)])
    things = [
        Thing(label="wall", solids=tuple(walls)),
        Thing(label="floor", solids=tuple(floors)),
        Thing(label="ceiling", solids=(plane(Vector(0, high, 0), UP.times(-1), ceiling),)),
    ]
    return things, f"a room with {wall_name} walls and a {floor_name} floor"


def _floor(rng: Rng) -> tuple[str, Material]:
    kind = rng.choice(("wooden", "wooden", "tiled", "checkered", "carpeted"))
    if kind == "wooden":
        wood = shade(rng, rng.choice(WOODS))
        return kind, Material(
            color=wood,
            second=mixed(wood, (0, 0, 0), 0.45),
            pattern="planks",
            size=0.16,
            grain=0.12,
            grain_size=0.06,
            shine=0.08,
        )
    color = named_color(rng, ("gray", "white", "brown", "blue", "red", "green"))[1]
    if kind == "tiled":
        return kind, Material(
            color=mixed(color, (0.9, 0.9, 0.9), 0.4),
            second=(0.4, 0.4, 0.4),
            pattern="tiles",
            size=rng.uniform(0.35, 0.6),
            shine=0.12,
        )
    if kind == "checkered":
        return kind, Material(
            color=color,
            second=shade(rng, NAMED["white"]),
            pattern="checker",
            size=rng.uniform(0.35, 0.6),
            shine=0.1,
        )
    return kind, Material(color=mixed(color, (0.6, 0.55, 0.5), 0.3), grain=0.2, grain_size=0.05)


def _window(rng: Rng, x: float, long: float) -> list[Solid]:
    wide, high, middle = rng.uniform(0.9, 1.5), rng.uniform(0.9, 1.3), rng.uniform(1.45, 1.65)
    frame = Material(color=(0.93, 0.93, 0.92))
    view = Material(color=(0.55, 0.74, 0.94), second=(0.93, 0.95, 0.97), pattern="painting", size=0.4, glows=True)
    return [
        box(Vector(x, middle, long - 0.02), (wide + 0.14, high + 0.14, 0.05), frame),
        box(Vector(x, middle, long - 0.03), (wide, high, 0.06), view),
        box(Vector(x, middle, long - 0.04), (0.06, high, 0.08), frame),
        box(Vector(x, middle, long - 0.04), (wide, 0.06, 0.08), frame),
    ]


def _painting(rng: Rng, x: float, long: float) -> list[Solid]:
    wide, high = rng.uniform(0.5, 1.1), rng.uniform(0.45, 0.8)
    frame = Material(color=shade(rng, rng.choice(((0.3, 0.2, 0.1), (0.75, 0.62, 0.3), (0.1, 0.1, 0.1)))))
    art = Material(
        color=named_color(rng)[1], second=named_color(rng)[1], pattern="painting", size=rng.uniform(0.1, 0.25)
    )
    return [
        box(Vector(x, 1.6, long - 0.02), (wide + 0.1, high + 0.1, 0.05), frame),
        box(Vector(x, 1.6, long - 0.03), (wide, high, 0.06), art),
    ]


def _rug(rng: Rng, long: float) -> Solid:
    color, other = named_color(rng)[1], named_color(rng)[1]
    pattern = rng.choice(_RUG_PATTERNS)
    material = Material(
        color=color, second=other, pattern=pattern, size=rng.uniform(0.12, 0.3), grain=0.15, grain_size=0.05
    )
    spot = Vector(rng.uniform(-0.5, 0.5), 0.01, long * rng.uniform(0.45, 0.65))
    return box(spot, (rng.uniform(1.4, 2.4), 0.02, rng.uniform(1.0, 1.9)), material, yaw_deg=rng.uniform(-15, 15))


def _along_walls(rng: Rng, ground: Footprints, half_wide: float, long: float) -> list[Thing]:
    """Furniture with its back to the far wall or to a side wall."""
    things = []
    makers = rng.shuffled((cabinet, cabinet, sofa, sofa, floor_lamp, floor_lamp))[: rng.whole(2, 5)]
    for maker in makers:
        thing = maker(rng)
        radius = footprint_radius(thing)
        depth = max(solid.center.z + solid.sizes[2] for solid in thing.solids)
        depth = max(depth, -min(solid.center.z - solid.sizes[2] for solid in thing.solids)) + 0.06
        for _ in range(8):
            wall = rng.choice(("far", "far", "left", "right"))
            if wall == "far":
                x, z, yaw = rng.uniform(-1, 1) * max(half_wide - radius, 0), long - depth, 180.0
            else:
                sign = -1.0 if wall == "left" else 1.0
                x, z, yaw = sign * (half_wide - depth), rng.uniform(0.4, 0.85) * long, -90.0 * sign
            if ground.take(x, z, radius * 0.85):
                things.append(moved(thing, Vector(x, 0, z), yaw))
                break
    return things


def _in_the_middle(rng: Rng, ground: Footprints, half_wide: float, long: float) -> list[Thing]:
    things = []
    makers = [table] * (1 if rng.happens(0.75) else 0) + [toy_ball] * rng.whole(0, 3)
    for maker in makers:
        thing = maker(rng)
        radius = footprint_radius(thing)
        for _ in range(8):
            x = rng.uniform(-1, 1) * max(half_wide - radius - 0.1, 0)
            z = rng.uniform(1.6, max(long - radius - 0.3, 1.7))
            if ground.take(x, z, radius):
                things.append(moved(thing, Vector(x, 0, z), rng.uniform(-30, 30)))
                break
    return things


def _people(rng: Rng, ground: Footprints, half_wide: float, long: float) -> tuple[Figure, ...]:
    people = []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        for _ in range(8):
            x, z = rng.uniform(-0.8, 0.8) * half_wide, rng.uniform(1.9, max(long - 0.5, 2.0))
            if ground.take(x, z, 0.32):
                people.append(random_person(rng, Vector(x, 0, z), 180 + rng.uniform(-110, 110)))
                break
    return tuple(people)


def moved(thing: Thing, spot: Vector, yaw_deg: float) -> Thing:
    """Rotate and move an object built around the origin."""
    return Thing(label=thing.label, solids=placed(thing.solids, spot, yaw_deg), noun=thing.noun, detail=thing.detail)
