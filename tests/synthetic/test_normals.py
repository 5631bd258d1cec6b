"""Normals of generated scenes are those of their surfaces."""

import numpy as np
import pytest

from metaprompts.data.io.normal_files import normals_from_depth
from metaprompts.synthetic import CLASSES, generate_scene


@pytest.fixture(scope="module")
def scenes():
    return [generate_scene(seed, 96, 144, kind) for seed, kind in ((5, "room"), (6, "street"))]


def test_they_are_unit_vectors_on_all_that_is_not_sky(scenes):
    for scene in scenes:
        length = np.linalg.norm(scene.normals, axis=2)
        np.testing.assert_allclose(length[scene.things >= 0], 1, atol=1e-6)
        assert not length[scene.things < 0].any()


def test_they_face_the_camera(scenes):
    for scene in scenes:
        rows, columns = np.indices(scene.depth_m.shape)
        rays = np.stack([columns, rows, np.ones_like(rows)], axis=2) @ np.linalg.inv(scene.intrinsics).T
        assert ((scene.normals * rays * (1, -1, -1)).sum(axis=2) <= 1e-6).all()


def test_they_are_those_of_the_depth(scenes):
    """Differences of depth know nothing of how the normals were made."""
    for scene in scenes:
        found = normals_from_depth(scene.depth_m, scene.intrinsics[0, 0])
        both = found.any(axis=2) & scene.normals.any(axis=2)
        cosine = (found * scene.normals).sum(axis=2)[both]
        assert both.mean() > 0.6
        assert np.median(np.rad2deg(np.arccos(cosine.clip(-1, 1)))) < 0.5


def test_the_floor_has_one_normal(scenes):
    floor = scenes[0].normals[scenes[0].labels == CLASSES.index("floor")]
    assert len(floor) > 100
    assert np.ptp(floor, axis=0).max() < 1e-6
    assert floor[0, 1] > 0.7


def test_a_mirror_turns_them(scenes):
    mirrored = scenes[0].mirrored()
    assert np.array_equal(mirrored.normals[:, ::-1] * (-1, 1, 1), scenes[0].normals)
