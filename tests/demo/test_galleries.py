from pathlib import Path

import numpy as np

from metaprompts.data.samples import Sample
from metaprompts.demo.galleries import SCALE, task_gallery
from metaprompts.predictions import DepthPrediction
from metaprompts.tasks import Depth


class Ten:
    """Predicts ten meters everywhere."""

    task = Depth(max_depth_m=20.0)

    def predict(self, picture, boxes):
        assert boxes is None
        return DepthPrediction(depth_m=np.full(picture.shape[:2], 10, np.float32), picture=picture)


def test_what_has_no_depth_is_black_in_the_prediction_too():
    depth_m = np.linspace(1, 20, 32 * 48, dtype=np.float32).reshape(32, 48)
    depth_m[:16] = 0
    picture = np.full((32, 48, 3), 200, np.uint8)
    gallery = task_gallery(Ten(), [Sample(image=picture, path=str(Path("a.png")), depth_m=depth_m)])
    (_, truth, predicted) = gallery.rows[0]
    sky, ground = slice(0, 14 * SCALE), slice(18 * SCALE, None)
    assert truth[sky].max() == predicted[sky].max() == 0
    assert predicted[ground].max(axis=2).min() > 0
