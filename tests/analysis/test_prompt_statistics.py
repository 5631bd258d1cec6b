"""Streaming statistics of prompts, against numpy on all pixels at once and against numbers worked out by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metaprompts.errors import InputError
from metaprompts.metrics import prompt_statistics
from metaprompts.metrics.prompt_statistics import ClassResponses, DepthResponses, JointResponses, peaks, values_at


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Prompts are enlarged two at a time, so that five need three parts."""
    monkeypatch.setattr(prompt_statistics, "_AT_ONCE", 2)


def enlarged(maps, size):
    return F.interpolate(maps.double(), size=size, mode="bilinear", align_corners=False).numpy()


def random_maps(seed, images=2, size=(4, 6)):
    maps = torch.randn(images, 5, *size, generator=torch.Generator().manual_seed(seed))
    maps[:, 4] = 3.0  # a prompt that is the same everywhere
    return maps


def test_classes_equal_numpy():
    generator = torch.Generator().manual_seed(0)
    # Images of two sizes; nobody labels class 2.
    batches = [(random_maps(seed), size) for seed, size in ((1, (9, 13)), (2, (8, 5)))]
    measured, pixels, labels = ClassResponses(5, ["a", "b", "c", "d"]), [], []
    for maps, size in batches:
        given = torch.tensor([0, 1, 3, 255])[torch.randint(0, 4, (2, *size), generator=generator)]
        measured.update(maps, {"labels": given})
        pixels.append(enlarged(maps, size).transpose(1, 0, 2, 3).reshape(5, -1))
        labels.append(given.numpy().ravel())
    pixels, labels = np.concatenate(pixels, axis=1), np.concatenate(labels)
    found = measured.compute()
    known = pixels[:, labels != 255]
    np.testing.assert_allclose(found.mean, known.mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(found.std, known.std(axis=1), rtol=1e-10, atol=1e-10)
    for place in (0, 1, 3):
        np.testing.assert_allclose(found.means[:, place], pixels[:, labels == place].mean(axis=1), rtol=1e-10)
    assert np.isnan(found.means[:, 2]).all()
    z = (found.means[:4] - known.mean(axis=1)[:4, None]) / known.std(axis=1)[:4, None]
    assert found.preferred == [*np.nanargmax(z, axis=1).tolist(), None]


def test_classes_by_hand():
    """Prompt 0 is 1 on class 0 and 5 on class 1: mean 3, std 2, z -1 and 1. Prompt 1 is its negative."""
    maps = torch.tensor([[[[1.0, 5.0]], [[-1.0, -5.0]]]])
    measured = ClassResponses(2, ["road", "sky"])
    measured.update(maps, {"labels": torch.tensor([[[0, 1]]])})
    found = measured.compute()
    np.testing.assert_allclose(found.z, [[-1, 1], [1, -1]])
    assert found.preferred == [1, 0]
    np.testing.assert_allclose(found.means, [[1, 5], [-1, -5]])


def test_depth_equals_numpy():
    """Pixels without depth, too near and too far count nowhere; one image has none that counts."""
    generator = torch.Generator().manual_seed(0)
    measured, pixels, depths = DepthResponses(5, min_depth_m=0.5, max_depth_m=10.0), [], []
    for seed, size in ((1, (9, 13)), (2, (8, 5))):
        maps, depth_m = random_maps(seed), 12 * torch.rand(2, *size, generator=generator)
        depth_m[:, 0] = 0
        depth_m[1] *= seed - 1  # the first batch's second image is empty
        measured.update(maps, {"depth_m": depth_m})
        pixels.append(enlarged(maps, size).transpose(1, 0, 2, 3).reshape(5, -1))
        depths.append(depth_m.numpy().ravel())
    pixels, depths = np.concatenate(pixels, axis=1), np.concatenate(depths)
    counted = (depths > 0.5) & (depths < 10)
    found = measured.compute()
    expected = np.corrcoef(np.vstack([pixels[:4, counted], depths[counted]]))[4, :4]
    np.testing.assert_allclose(found.correlation[:4], expected, rtol=1e-9)
    assert np.isnan(found.correlation[4])
    np.testing.assert_allclose(found.std[:4], pixels[:4, counted].std(axis=1), rtol=1e-9)


def test_maps_are_read_at_points_of_the_image():
    """A 2 x 4 map over 16 x 32 pixels: its centers are at x = 3.5, 11.5, 19.5, 27.5 and y = 3.5, 11.5."""
    maps = torch.tensor([[[0.0, 8.0, 0.0, 2.0], [0.0, 16.0, 0.0, 0.0]]]).double()
    points = torch.tensor([[11.5, 3.5], [11.5, 7.5], [9.5, 3.5], [31.0, 0.0]]).double()
    np.testing.assert_allclose(values_at(maps, points, (16, 32)), [[8, 12, 6, 2]])
    np.testing.assert_allclose(peaks(maps, (16, 32)), [[11.5, 11.5]])


def test_joints_by_hand():
    """Two people; what is labeled but hidden (1) does not count, and joint c is visible in nobody."""
    maps = torch.zeros(2, 1, 1, 4)
    maps[0, 0, 0, 1] = 8.0
    maps[1, 0, 0, 3] = 4.0
    keypoints = torch.tensor(
        [
            [[11.5, 3.5, 2], [19.5, 3.5, 2], [11.5, 3.5, 1]],
            [[24.5, 7.5, 2], [27.5, 3.5, 1], [27.5, 3.5, 0]],
        ]
    )
    measured = JointResponses(1, ["a", "b", "c"])
    measured.update(maps, {"image": torch.zeros(2, 3, 8, 32), "keypoints": keypoints})
    found = measured.compute()
    values = np.array([0, 8, 0, 0, 0, 0, 0, 4.0])
    # Joint a: 8, and 5/8 of the way from 19.5 to 27.5: 2.5. Its distances: 0, and 3 right and 4 up.
    np.testing.assert_allclose(found.means, [[(8 + 2.5) / 2, 0, np.nan]])
    np.testing.assert_allclose(found.peak_distance_px, [[(0 + 5) / 2, 8, np.nan]])
    assert found.mean[0] == pytest.approx(values.mean())
    assert found.std[0] == pytest.approx(values.std())
    assert found.preferred == [0]


def test_nothing_to_measure_is_reported():
    classes = ClassResponses(1, ["a"])
    classes.update(torch.zeros(1, 1, 2, 2), {"labels": torch.full((1, 2, 2), 255)})
    depth = DepthResponses(1, min_depth_m=0.0, max_depth_m=1.0)
    depth.update(torch.zeros(1, 1, 2, 2), {"depth_m": torch.zeros(1, 2, 2)})
    joints = JointResponses(1, ["a"])
    joints.update(torch.zeros(1, 1, 2, 2), {"image": torch.zeros(1, 3, 16, 16), "keypoints": torch.zeros(1, 1, 3)})
    for measured, what in ((classes, "labeled pixel"), (depth, "measured pixel"), (joints, "visible joint")):
        with pytest.raises(InputError, match=f"no {what}"):
            measured.compute()
