"""Distances between two points, on geometry that is known exactly."""

import math

import numpy as np
import pytest

from metaprompts.app.measure import camera_of, measure
from metaprompts.data.io.intrinsics import Intrinsics, default_intrinsics
from metaprompts.errors import InputError
from metaprompts.synthetic import generate_scene


def test_a_wall_in_front_of_the_camera():
    """At a field of view of 90 degrees, 100 pixels of a wall at 2 m are 4 m wide."""
    wall = np.full((50, 100), 2, np.float32)
    found = measure(wall, (0, 10), (99, 10), Intrinsics.from_fov_x(90, 50, 100))
    assert found.distance_m == pytest.approx(4 * 99 / 100)
    assert found.depths_m == (2, 2)


def test_points_at_different_depths():
    depth = np.array([[3, 1, 4]], np.float32)
    camera = Intrinsics.from_focal_px(1, 1, 3)
    assert measure(depth, (0, 0), (2, 0), camera).distance_m == pytest.approx(math.hypot(3 + 4, 1))


def test_the_joints_of_a_person_in_a_scene():
    """Both ways from a pixel to space and back agree with the scene's own intrinsics."""
    scene = generate_scene(3, 96, 144)
    camera = Intrinsics.from_matrix(scene.intrinsics)
    first, second = (40, 90), (100, 92)
    rays = [
        np.linalg.inv(scene.intrinsics) @ (*point, 1) * scene.depth_m[point[1], point[0]] for point in (first, second)
    ]
    assert measure(scene.depth_m, first, second, camera).distance_m == pytest.approx(math.dist(*rays), rel=1e-5)


@pytest.mark.parametrize("point", [(3, 0), (0, -1)])
def test_points_outside(point):
    with pytest.raises(InputError, match="outside the image of 3 x 1 pixels"):
        measure(np.ones((1, 3), np.float32), (0, 0), point, default_intrinsics(1, 3))


def test_points_without_depth():
    with pytest.raises(InputError, match="there is no depth at 1, 0: click somewhere else"):
        measure(np.array([[1, np.nan]], np.float32), (0, 0), (1, 0), default_intrinsics(1, 2))


def test_the_camera_is_as_predict_assumes():
    default = default_intrinsics(60, 80)
    assert camera_of(None, (60, 80), (default.fov_x_deg(80), default.source)) == default
    assert camera_of(None, (60, 80), (50.0, "EXIF, 40 mm on 35 mm film")).source.startswith("EXIF")
    assert camera_of(40.0, (60, 80), (50.0, "EXIF")).fov_x_deg(80) == pytest.approx(40)
    with pytest.raises(InputError, match="more than 0 and below 180"):
        camera_of(0.0, (60, 80), (50.0, "EXIF"))
