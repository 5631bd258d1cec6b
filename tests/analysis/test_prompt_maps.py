"""Maps lie where they belong: ramps, whose bilinear enlargement is known, and images seen by every task."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metaprompts.analysis.prompt_maps import PromptMaps, on_image
from metaprompts.tasks import Depth, Pose, Segmentation
from metaprompts.tasks.preprocess import ModelInput

SIZE = (37, 101)


def ramp(height, width, axis):
    """A map whose pixels hold the place of their own center, 0 and 1 being the image's edges."""
    down, across = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return across if axis == "x" else down


def whole():
    return ModelInput(image=torch.zeros(3, 64, 192), box_xywh=np.array([0, 0, 101, 37], np.float32))


@pytest.mark.parametrize(("axis", "cells"), [("x", 24), ("y", 8)])
def test_a_ramp_over_a_image_of_odd_size(axis, cells):
    """Linear between the outermost centers, constant beyond them."""
    found = on_image(ramp(8, 24, axis), whole(), SIZE).numpy()
    length = SIZE[1] if axis == "x" else SIZE[0]
    expected = ((np.arange(length) + 0.5) / length).clip(0.5 / cells, 1 - 0.5 / cells)
    np.testing.assert_allclose(found, np.broadcast_to(expected if axis == "x" else expected[:, None], SIZE), atol=1e-6)


def crop(left, top, width, height):
    box = np.array([left, top, width, height], np.float32)
    center = np.array([left + width / 2, top + height / 2], np.float32)
    return ModelInput(image=torch.zeros(3, 32, 64), box_xywh=box, center=center, size=box[2:])


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_ramp_over_a_crop(axis):
    """The crop's first pixel center is on the box's left edge, its last on the right edge (UDP); outside is nothing."""
    found = on_image(ramp(4, 8, axis), crop(20, -6, 42, 21), SIZE).numpy()
    x = np.arange(SIZE[1])[None] * np.ones((SIZE[0], 1))
    y = np.arange(SIZE[0])[:, None] * np.ones((1, SIZE[1]))
    across, down = ((x - 20) * 63 / 42 + 0.5) / 64, ((y + 6) * 31 / 21 + 0.5) / 32
    inside = (across >= 0) & (across <= 1) & (down >= 0) & (down <= 1)
    expected = across.clip(1 / 16, 15 / 16) if axis == "x" else down.clip(1 / 8, 7 / 8)
    assert inside.any()
    assert not inside.all()
    np.testing.assert_array_equal(np.isfinite(found), inside)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)


TASKS = [
    Segmentation(classes=("a", "b")),
    Depth(max_depth_m=10.0, margin_blocks=1),
    Pose(crop_height=192, crop_width=128),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("size", [(131, 203), (203, 97), (77, 150)])
def test_what_is_at_a_place_in_the_image_comes_back_to_that_place(task, size):
    """Brightness rises along x: seen by the task, averaged in cells of 8 pixels, and brought back, to half a pixel."""
    line = np.linspace(0, 255, size[1])
    image = np.rint(np.broadcast_to(line[None, :, None], (*size, 3))).astype(np.uint8)
    for turned in (False, True):
        given = np.ascontiguousarray(image.transpose(1, 0, 2)) if turned else image
        (view,) = task.model_inputs(given, (128, 192), None)
        cells = F.avg_pool2d(task.resize_for_backbone(view.image[None]), 8)[0, 0]
        found = on_image(cells, view, given.shape[:2]).numpy() * 255
        found = found.T if turned else found
        # Near the edge the outermost cell's value holds, and a crop's last cell has seen the black beyond the image.
        margin = max(size) // 8
        inner = found[margin:-margin, margin:-margin]
        one_pixel = 255 / (size[1] - 1)
        assert np.abs(inner - line[margin:-margin]).max() < 0.5 * one_pixel
        assert np.isfinite(found).all()


def test_where_crops_overlap_the_larger_value_counts_and_outside_is_not_seen():
    views = (crop(0, 0, 40, 36), crop(30, 0, 40, 36))
    maps = (torch.full((2, 4, 8), 1.0), torch.full((2, 4, 8), 3.0))
    found = PromptMaps(size=SIZE, views=views, maps=maps).heatmap(1)
    assert found.prompt == 1
    assert found.map[:, :30].max() < 1e-6
    assert (found.map[:, 31:70] > 1 - 1e-6).all()
    assert found.seen[:, :71].all()
    assert not found.seen[:, 72:].any()
    assert (found.map[:, 72:] == 0).all()


def test_only_what_was_asked_for_is_chosen():
    blank, half = torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    maps = PromptMaps(size=SIZE, views=(whole(),), maps=(torch.stack([blank, half, half.T]),))
    assert maps.chosen([2, 0], 1) == [2, 0]
    assert maps.chosen([], 2) == [1, 2]
    assert PromptMaps(size=SIZE, views=(), maps=()).chosen([2], 1) == []


def test_a_constant_map_stays_constant_though_enlarging_rounds():
    """Bilinear weights do not sum to 1 exactly: differences of the last bit became a full range of colors."""
    maps = PromptMaps(size=SIZE, views=(crop(0, 0, 100, 36),), maps=(torch.ones(1, 4, 8),))
    assert 0 < np.ptp(on_image(maps.maps[0][0], maps.views[0], SIZE).numpy()) < 1e-6
    assert (maps.heatmap(0).map == 0).all()
