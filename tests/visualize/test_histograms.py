import numpy as np
import pytest

from metaprompts.visualize.segmentation import class_histogram, palette
from slow import slow_except


def test_bars_are_as_long_as_shares_are_large():
    colors = palette(3)
    drawn = class_histogram("a", ["road", "sky", "never seen"], colors, [0.5, 0.25, 0.0], 800)
    road, sky, never = ((drawn == color).all(axis=2)[28:].sum(axis=1).max() for color in colors)
    swatch = 10
    assert never == swatch
    assert (road - swatch) / (sky - swatch) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("classes", "width"), slow_except([(1, 100), (150, 1320), (3000, 1320)], (1, 100), (150, 1320))
)
def test_any_number_of_classes(classes, width):
    shares = np.full(classes, 1 / classes).tolist()
    drawn = class_histogram("a", [f"class {index}" for index in range(classes)], palette(classes), shares, width)
    assert drawn.shape[1] >= width
    assert len(np.unique(drawn.astype(np.int32) @ (1, 256, 65536))) >= classes
