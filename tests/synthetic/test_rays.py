"""Where rays meet solids, against formulas and against solids known only by who is inside."""

import math

import numpy as np
import pytest

from metaprompts.synthetic.camera import camera_from_angles
from metaprompts.synthetic.render import render
from metaprompts.synthetic.solids import Material, Solid, ball, box, ellipsoid, limb, plane, rod
from metaprompts.synthetic.vectors import UP, Vector
from metaprompts.synthetic.world import Light, Sky, Thing, World

GRAY = Material(color=(0.5, 0.5, 0.5))
SUN = Light(position=Vector(50, 200, -80), strength=0.5, ambient=(0.5, 0.5, 0.5))
SKY = Sky(zenith=(0.2, 0.4, 0.9), horizon=(0.8, 0.9, 1.0))


def world_of(*solids: Solid, light: Light = SUN) -> World:
    return World(things=tuple(Thing(label="ball", solids=(solid,)) for solid in solids), light=light, sky=SKY)


def camera(yaw=0.0, pitch=0.0):
    return camera_from_angles(Vector(0, 1.5, 0), yaw_deg=yaw, pitch_deg=pitch, opening_deg=60, height=64, width=96)


def rays_of(view):
    """Directions one meter forward through every pixel center, written out with ordinary trigonometry."""
    yaw, pitch = math.radians(view.yaw_deg), math.radians(view.pitch_deg)
    forward = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    right = np.array([math.cos(yaw), 0, -math.sin(yaw)])
    up = np.cross(forward, right)
    rows, columns = np.mgrid[: view.height, : view.width]
    x = (columns - (view.width - 1) / 2) / view.focal_px
    y = ((view.height - 1) / 2 - rows) / view.focal_px
    return forward + x[..., None] * right + y[..., None] * up


def test_focal_length_is_that_of_the_opening_angle():
    assert camera().focal_px == pytest.approx(48 / math.tan(math.radians(30)), rel=1e-12)


@pytest.mark.parametrize(("yaw", "pitch"), [(0, 0), (0, -20), (35, -10), (-120, 15)])
def test_ground_plane_has_the_depth_of_the_formula(yaw, pitch):
    view = camera(yaw, pitch)
    depth = render(world_of(plane(Vector(0, 0, 0), UP, GRAY)), view).depth_m
    falls = rays_of(view)[..., 1]
    expected = np.where(falls < 0, 1.5 / -np.where(falls < 0, falls, -1), np.inf)
    np.testing.assert_allclose(depth, expected, rtol=1e-5)


@pytest.mark.parametrize("yaw", [0, 25])
def test_sphere_has_the_depth_of_the_formula(yaw):
    view = camera(yaw)
    center, radius = np.array([1.2, 1.1, 5.0]), 0.9
    depth = render(world_of(ball(Vector(*center), radius, GRAY)), view).depth_m
    rays, offset = rays_of(view), center - np.array([0, 1.5, 0])
    a, b, c = (rays**2).sum(-1), rays @ offset, offset @ offset - radius**2
    root = b**2 - a * c
    expected = np.where(root >= 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    np.testing.assert_allclose(depth, expected, rtol=1e-5)
    assert np.isfinite(depth).sum() > 100


def is_in_box(p):
    return (np.abs(p) <= 1).all(-1)


def is_in_roof(p):
    """A box whose width shrinks to nothing at the top."""
    return (np.abs(p[..., 1]) <= 1) & (np.abs(p[..., 2]) <= 1) & (np.abs(p[..., 0]) <= (1 - p[..., 1]) / 2)


def is_in_cone(p):
    radius = 1 - (1 - 0.3) * (p[..., 1] + 1) / 2
    return (np.abs(p[..., 1]) <= 1) & (p[..., 0] ** 2 + p[..., 2] ** 2 <= radius**2)


def is_in_capsule(p, half_length):
    beyond = p[..., 1] - np.clip(p[..., 1], -half_length, half_length)
    return p[..., 0] ** 2 + beyond**2 + p[..., 2] ** 2 <= 1


SHAPES = {
    "box": (box(Vector(0.3, 1.2, 4), (1.6, 1.1, 0.8), GRAY, yaw_deg=30), is_in_box),
    "roof": (box(Vector(-0.2, 1.4, 4), (1.8, 1.0, 1.5), GRAY, yaw_deg=-20, taper=(0.0, 1.0)), is_in_roof),
    "cone": (rod(Vector(0.1, 0.7, 4), Vector(-0.5, 2.1, 4.5), 0.6, GRAY, end_radius=0.18), is_in_cone),
    "egg": (ellipsoid(Vector(0.2, 1.3, 4), (0.4, 0.9, 0.6), GRAY, yaw_deg=50), lambda p: (p**2).sum(-1) <= 1),
    "limb": (limb(Vector(-0.6, 0.9, 4), Vector(0.7, 1.9, 4.4), 0.3, GRAY), None),
    "chest": (limb(Vector(0, 0.9, 4), Vector(0, 1.7, 4), 0.5, GRAY, depth=0.25), None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_solid_begins_where_walking_along_the_ray_first_gets_inside(name):
    """The shapes' own inequalities, tried every half millimeter or so, know nothing of how rays are intersected."""
    solid, is_inside = SHAPES[name]
    if is_inside is None:
        is_inside = lambda p: is_in_capsule(p, solid.half_length)  # noqa: E731
    view = camera()
    depth = render(world_of(solid), view).depth_m
    steps = np.arange(2.5, 6.0, 0.0008)
    rays = rays_of(view)
    frame = np.array(solid.directions) / np.array(solid.sizes)[:, None]
    hits = 0
    for row, column in np.random.default_rng(0).integers((0, 0), (64, 96), (250, 2)):
        points = np.array([0, 1.5, 0]) + steps[:, None] * rays[row, column]
        inside = is_inside((points - np.array(solid.center)) @ frame.T)
        # A ray that only grazes the solid may pass between two steps.
        if inside.sum() > 5 or not inside.any():
            expected = steps[inside.argmax()] if inside.any() else np.inf
            if not inside.any() and np.isfinite(depth[row, column]):
                continue
            assert depth[row, column] == pytest.approx(expected, abs=0.002), (row, column)
            hits += int(inside.any())
    assert hits >= 10


def test_nearest_of_two_solids_is_seen():
    near, far = ball(Vector(0, 1.5, 3), 0.5, GRAY), ball(Vector(0, 1.5, 6), 2.0, GRAY)
    for solids in ((near, far), (far, near)):
        rendering = render(world_of(*solids), camera())
        assert rendering.things[32, 48] == solids.index(near)
        assert rendering.things[32, 70] == solids.index(far)


def test_box_that_reaches_behind_the_camera_is_seen_whole():
    """A wall next to the camera begins behind it: its corners there have no place in the image."""
    wall = box(Vector(2.0, 1.5, 5), (0.2, 3.0, 20.0), GRAY)
    depth = render(world_of(wall), camera()).depth_m
    # The inner face is at x = 1.9, met at z = 1.9 / slope as far as z = 15.
    slopes = rays_of(camera())[32, :, 0]
    expected = np.where(slopes > 1.9 / 15, 1.9 / np.maximum(slopes, 1e-9), np.inf)
    np.testing.assert_allclose(depth[32], expected, rtol=1e-5)


def test_solid_behind_the_camera_is_not_seen():
    assert np.isinf(render(world_of(ball(Vector(0, 1.5, -3), 1.0, GRAY)), camera()).depth_m).all()


def test_shadow_falls_where_the_sun_is_hidden():
    """A ball over the ground shades the disk that the sun's rays through it draw."""
    sun = Light(position=Vector(0, 1000, 0), strength=0.6, ambient=(0.3, 0.3, 0.3))
    floor, shade = plane(Vector(0, 0, 0), UP, GRAY), ball(Vector(0, 3.4, 5), 0.8, GRAY)
    view = camera(pitch=-15)
    lit = render(world_of(floor, light=sun), view).image.astype(int)
    image = render(world_of(floor, shade, light=sun), view)
    points = np.array([0, 1.5, 0]) + image.depth_m[..., None] * rays_of(view)
    away = np.hypot(points[..., 0], points[..., 2] - 5)
    ground = image.things == 0
    darker = (lit - image.image).max(-1) > 20
    assert darker[ground & (away < 0.7)].all()
    assert not darker[ground & (away > 0.95)].any()
    assert (ground & (away < 0.7)).sum() > 30


def test_gray_sky_casts_no_shadow():
    sun = Light(position=Vector(0, 1000, 0), strength=0.6, ambient=(0.3, 0.3, 0.3), casts_shadows=False)
    floor, shade = plane(Vector(0, 0, 0), UP, GRAY), ball(Vector(0, 3.4, 5), 0.8, GRAY)
    view = camera(pitch=-15)
    alone, both = (render(world_of(*solids, light=sun), view) for solids in ((floor,), (floor, shade)))
    ground = both.things == 0
    np.testing.assert_array_equal(alone.image[ground], both.image[ground])


@pytest.mark.slow
def test_edges_are_smoothed_by_the_share_that_is_covered():
    """A bright wall's slanted edge before a dark sky: pixels on it have brightness in between, in proportion."""
    bright = Material(color=(1.0, 1.0, 1.0), glows=True)
    dark = Sky(zenith=(0, 0, 0), horizon=(0, 0, 0))
    slanted = rod(Vector(-20, 1.0, 10), Vector(20, 2.7, 10), 3.0, bright)
    world = World(things=(Thing(label="ball", solids=(slanted,)),), light=SUN, sky=dark)
    low = render(world, camera()).image[..., 0] / 255.0
    view = camera_from_angles(Vector(0, 1.5, 0), yaw_deg=0, pitch_deg=0, opening_deg=60, height=1024, width=1536)
    fine = (render(world, view).image[..., 0] / 255.0).reshape(64, 16, 96, 16).mean((1, 3))
    assert ((fine > 0.1) & (fine < 0.9)).sum() > 30
    assert np.abs(low - fine).max() < 0.3
    jagged = (np.isfinite(render(world, camera()).depth_m)).astype(float)
    assert np.abs(low - fine).mean() < 0.35 * np.abs(jagged - fine).mean()
