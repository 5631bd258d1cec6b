from pathlib import Path

import numpy as np

from metaprompts.data.sample import Sample
from metaprompts.demo.galleries import SCALE, task_gallery
from metaprompts.tasks import Depth
from metaprompts.tasks.predictions import DepthPrediction
from metaprompts.visualize.depth import color_depth, depth_legend, depth_range


class Ten:
    """Predicts ten meters everywhere."""

    task = Depth(max_depth_m=20.0)

    def predict(self, image, boxes):
        assert boxes is None
        return DepthPrediction(depth_m=np.full(image.shape[:2], 10, np.float32), image=image)


def row_of(depth_m):
    image = np.full((32, 48, 3), 200, np.uint8)
    gallery = task_gallery(Ten(), [Sample(image=image, path=str(Path("a.png")), depth_m=depth_m)])
    assert gallery.names == ["scene a"]
    return gallery.rows[0]


# The scale below may be wider than the image.
WIDTH = slice(0, 48 * SCALE)
SKY, GROUND = (slice(0, 14 * SCALE), WIDTH), (slice(18 * SCALE, 32 * SCALE), WIDTH)


def test_what_is_predicted_for_the_sky_is_shown():
    """The report blackened the prediction wherever the truth had no depth, which hid a sky 4 m away."""
    depth_m = np.linspace(1, 20, 32 * 48, dtype=np.float32).reshape(32, 48)
    depth_m[:16] = 0
    _, truth, predicted = row_of(depth_m)
    assert truth[SKY].max() == 0
    assert predicted[SKY].max(axis=2).min() > 0
    assert predicted[GROUND].max(axis=2).min() > 0


def test_true_sky_has_the_color_of_the_far_end():
    depth_m = np.full((32, 48), 5, np.float32)
    depth_m[16:, ::2] = 20
    depth_m[:16] = np.inf
    _, truth, _ = row_of(depth_m)
    np.testing.assert_array_equal(truth[0, 0], color_depth(np.array([[5.0, 20.0]]), 5, 20)[0, 1])


def test_depth_has_a_scale_in_meters():
    """Depth was drawn without a scale, and a sentence promised that a black sky has the color of the largest depth."""
    depth_m = np.linspace(1, 20, 32 * 48, dtype=np.float32).reshape(32, 48)
    image, *drawn = row_of(depth_m)
    scale = depth_legend(*depth_range(depth_m), 48 * SCALE)
    assert len(image) == 32 * SCALE
    for each in drawn:
        np.testing.assert_array_equal(each[32 * SCALE :], blank_right(scale, each))


def blank_right(scale, wide):
    return np.pad(scale, ((0, 0), (0, wide.shape[1] - scale.shape[1]), (0, 0)))


def test_the_legend_explains_black():
    task = Ten.task
    sample = Sample(image=np.zeros((2, 2, 3), np.uint8), path="a.png", depth_m=np.array([[1, 0], [2, 3]], np.float32))
    assert task.legend_entries(sample) == {0}
    explained, plain = task.legend({0}, 600), task.legend(set(), 600)
    assert explained.shape == plain.shape
    assert (explained != plain).any()
