"""Streets: a road between sidewalks and houses, with trees, cars, poles, signs and people."""

from metaprompts.synthetic.camera import Camera, camera_from_angles
from metaprompts.synthetic.colors import mixed, shade
from metaprompts.synthetic.people import Figure, random_person
from metaprompts.synthetic.placement import Footprints
from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.rooms import moved
from metaprompts.synthetic.solids import Material, box, plane, without_shadow
from metaprompts.synthetic.street_things import (
    FACADES,
    bollard,
    building,
    hedge,
    shop_sign,
    street_lamp,
    traffic_sign,
    tree,
)
from metaprompts.synthetic.vectors import UP, Vector
from metaprompts.synthetic.vehicles import car
from metaprompts.synthetic.world import Light, Sky, Thing, World

_CURB_M = 0.14
_SKIES = {
    "clear": Sky(zenith=(0.25, 0.48, 0.86), horizon=(0.75, 0.86, 0.96), clouds=0.12, haze_m=260),
    "cloudy": Sky(zenith=(0.4, 0.58, 0.86), horizon=(0.82, 0.87, 0.92), clouds=0.55, haze_m=200),
    "gray": Sky(zenith=(0.62, 0.66, 0.7), horizon=(0.8, 0.82, 0.83), clouds=0.4, haze_m=110),
    "evening": Sky(zenith=(0.32, 0.36, 0.66), horizon=(0.98, 0.7, 0.45), clouds=0.25, haze_m=180),
}


def build_street(rng: Rng, height: int, width: int) -> tuple[World, Camera, tuple[Figure, ...], str]:
    """A street seen along its length.

    Returns:
        the world, the camera, the people, and the beginning of a caption
    """
    half_road, walk = rng.uniform(3.0, 4.6), rng.uniform(2.0, 3.6)
    sky_name = rng.choice(tuple(_SKIES))
    facade = rng.choice(FACADES)
    ground = Footprints()
    things = [*_grounds(rng, half_road), *_houses(rng, half_road + walk, facade)]
    things += _cars(rng, ground, half_road)
    things += _furniture(rng, ground, half_road, walk)
    people = _people(rng, ground, half_road, walk)
    things += [figure.thing for figure in people]
    side = rng.uniform(-0.75, 0.75) * half_road
    camera = camera_from_angles(
        Vector(side, rng.uniform(1.35, 2.1), 0.0),
        yaw_deg=rng.uniform(-14, 14) - 4 * side / half_road,
        pitch_deg=rng.uniform(-6, 2),
        opening_deg=rng.uniform(52, 72),
        height=height,
        width=width,
    )
    world = World(things=tuple(things), light=_sun(rng, sky_name), sky=_SKIES[sky_name])
    opening = f"a street with {facade[0]} houses under {'an' if sky_name == 'evening' else 'a'} {sky_name} sky"
    return world, camera, people, opening


def _sun(rng: Rng, sky: str) -> Light:
    position = Vector(rng.uniform(-160, 160), rng.uniform(90, 220), rng.uniform(-160, 60))
    if sky == "gray":
        return Light(position=position, strength=0.14, ambient=(0.8, 0.81, 0.82), casts_shadows=False)
    if sky == "evening":
        low = Vector(position.x, 70.0, position.z)
        return Light(position=low, strength=0.6, ambient=(0.52, 0.47, 0.5), color=(1.0, 0.8, 0.58))
    return Light(position=position, strength=0.6, ambient=(0.56, 0.59, 0.64), color=(1.0, 0.97, 0.9))


def _grounds(rng: Rng, half_road: float) -> list[Thing]:
    gray = rng.uniform(0.36, 0.52)
    asphalt = Material(
        color=(gray, gray, gray * 1.03),
        second=(0.88, 0.88, 0.84),
        pattern="road",
        size=half_road,
        grain=0.16,
        grain_size=0.25,
    )
    tone = shade(rng, rng.choice(((0.66, 0.64, 0.6), (0.6, 0.54, 0.48), (0.7, 0.66, 0.58))))
    slabs = Material(
        color=tone,
        second=mixed(tone, (0, 0, 0), 0.35),
        pattern="tiles",
        size=rng.uniform(0.6, 1.1),
        grain=0.1,
        grain_size=0.3,
    )
    stone = Material(color=mixed(tone, (1, 1, 1), 0.25))
    road = [plane(Vector(0, 0, 0), UP, asphalt)]
    pavement = []
    for side in (-1, 1):
        pavement.append(box(Vector(side * (half_road + 30), _CURB_M / 2, 90), (60, _CURB_M, 200), slabs))
        pavement.append(box(Vector(side * (half_road + 0.08), _CURB_M / 2, 90), (0.18, _CURB_M + 0.01, 200), stone))
    if rng.happens(0.3):
        white = Material(color=(0.87, 0.87, 0.84), grain=0.1, grain_size=0.2)
        crossing = rng.uniform(6, 16)
        bars = int(half_road / 0.5)
        road += [
            box(Vector((bar - bars / 2 + 0.5) * 1.0, 0.002, crossing), (0.5, 0.006, 2.6), white) for bar in range(bars)
        ]
    return [
        Thing(label="road", solids=tuple(without_shadow(road))),
        Thing(label="pavement", solids=tuple(without_shadow(pavement))),
    ]


def _houses(rng: Rng, edge: float, facade: tuple[str, tuple[float, float, float]]) -> list[Thing]:
    """A row on each side; most houses have the street's facade, and some lots are empty."""
    things = []
    end = rng.uniform(35, 70)
    for side in (-1.0, 1.0):
        z = -4.0
        while z < end:
            wide = rng.uniform(6, 13)
            spot = Vector(side * edge, 0, z + wide / 2)
            if z > 6 and rng.happens(0.16):
                things.append(moved(hedge(rng, wide - 0.5), Vector(side * (edge + 0.8), _CURB_M, z + wide / 2), 0))
                things.append(moved(tree(rng), Vector(side * (edge + 3.5), _CURB_M, z + wide / 2), 0))
            else:
                own = facade if rng.happens(0.6) else rng.choice(FACADES)
                things.append(moved(building(rng, -side, wide, own), spot, 0))
                if z < 35 and rng.happens(0.25):
                    things.append(moved(shop_sign(rng, -side), spot, 0))
            z += wide + (0.0 if rng.happens(0.8) else rng.uniform(1, 3))
    if rng.happens(0.5):
        closing = building(rng, 1.0, 60, rng.choice(FACADES))
        things.append(moved(closing, Vector(0, 0, end + 12), 90))
    return things


def _cars(rng: Rng, ground: Footprints, half_road: float) -> list[Thing]:
    things = []
    for _ in range(rng.whole(0, 6)):
        right = rng.happens(0.5)
        parked = rng.happens(0.5)
        lane = half_road - 1.05 if parked else half_road * 0.42
        x, z = (lane if right else -lane), 5.5 + 34 * rng.uniform(0, 1) * rng.uniform(0.25, 1)
        if ground.take(x, z, 2.3):
            yaw = (0.0 if right else 180.0) + rng.uniform(-4, 4)
            things.append(moved(car(rng), Vector(x, 0, z), yaw))
    return things


def _furniture(rng: Rng, ground: Footprints, half_road: float, walk: float) -> list[Thing]:
    """Trees, lamps, posts and traffic signs along the curbs."""
    things = []
    kinds = (
        ["tree"] * rng.whole(0, 5)
        + ["lamp"] * rng.whole(0, 3)
        + ["sign"] * rng.whole(0, 3)
        + ["post"] * rng.whole(0, 3)
    )
    for kind in kinds:
        side = rng.choice((-1.0, 1.0))
        near = 4.5 if kind != "tree" else 7.0
        x = side * (half_road + 0.5)
        z = near + 26 * rng.uniform(0, 1) * rng.uniform(0.3, 1)
        if not ground.take(x, z, 0.5):
            continue
        spot = Vector(x, _CURB_M, z)
        if kind == "sign":
            things += [moved(part, spot, rng.uniform(-8, 8)) for part in traffic_sign(rng)]
        elif kind == "lamp":
            things.append(moved(street_lamp(rng, -side), spot, 0))
        else:
            things.append(moved(tree(rng) if kind == "tree" else bollard(rng), spot, rng.uniform(0, 360)))
    return things


def _people(rng: Rng, ground: Footprints, half_road: float, walk: float) -> tuple[Figure, ...]:
    people = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        side = rng.choice((-1.0, 1.0))
        on_road = rng.happens(0.3)
        x = rng.uniform(-1, 1) * half_road if on_road else side * (half_road + rng.uniform(0.9, max(walk - 0.4, 1.0)))
        z = 3.2 + 13 * rng.uniform(0, 1) * rng.uniform(0.3, 1)
        if ground.take(x, z, 0.45):
            facing = rng.choice((0.0, 180.0, 90.0, -90.0)) + rng.uniform(-40, 40)
            people.append(random_person(rng, Vector(x, 0 if on_road else _CURB_M, z), facing))
    return tuple(people)
