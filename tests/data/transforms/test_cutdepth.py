import numpy as np
import pytest

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.color import CutDepth, scaled_gray, strip, wrapped_gray
from metaprompts.data.transforms.transform import EveryNth


@pytest.fixture
def sample():
    depth_m = np.full((2, 10), 2.0, np.float32)
    depth_m[0] = 0
    return Sample(image=np.full((2, 10, 3), 7, np.uint8), path="a.png", depth_m=depth_m)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    # (100 - 40) x 0.5 x 0.75 = 22.5; never less than one column.
    [(0.4, 0.5, (40, 22)), (0.0, 1.0, (0, 75)), (0.999, 0.5, (99, 1)), (0.5, 0.0, (50, 1))],
)
def test_strip(alpha, beta, expected):
    assert strip(100, alpha, beta, max_share=0.75) == expected


def test_scaled_gray():
    depth_m = np.array([0, 2, 5, 10, 12], np.float32)
    assert scaled_gray(depth_m, 10).tolist() == [0, 51, 128, 255, 255]


def test_wrapped_gray_equals_the_cast_of_the_stored_integers():
    """For every 16-bit value: from millimeters to meters and back is exact, then the low byte."""
    stored = np.arange(65536, dtype=np.uint16)
    for depth_scale in (1000, 256):
        depth_m = stored.astype(np.float32) / np.float32(depth_scale)
        assert np.array_equal(wrapped_gray(depth_m, depth_scale), stored.astype(np.uint8))


class TestCutDepth:
    @pytest.mark.parametrize(
        ("cut", "gray"),
        [
            (CutDepth(mode="scaled", max_depth_m=10), 51),
            # 2000 modulo 256
            (CutDepth(mode="released", depth_scale=1000), 208),
        ],
    )
    def test_full_height_strip(self, script, sample, cut, gray):
        """Columns 4 and 5: (10 - 4) x 0.5 x 0.75 = 2.25."""
        changed = cut(sample, script(0.0, 0.4, 0.5))
        expected = [[7, 7, 7, 7, value, value, 7, 7, 7, 7] for value in (0, gray)]
        for channel in range(3):
            assert changed.image[:, :, channel].tolist() == expected
        assert (sample.image == 7).all()
        assert changed.depth_m is sample.depth_m

    def test_probability(self, script, sample):
        cut = CutDepth(mode="scaled", max_depth_m=10, probability=0.25)
        assert cut(sample, script(0.25)) is sample
        assert (cut(sample, script(0.24, 0.4, 0.5)).image != 7).any()

    def test_needs_depth(self, script):
        with pytest.raises(ValueError, match=r"a\.png has none"):
            CutDepth(mode="scaled", max_depth_m=10)(
                Sample(image=np.zeros((2, 2, 3), np.uint8), path="a.png"), script(0.0)
            )

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"mode": "raw"}, "mode"),
            ({"mode": "scaled"}, "max_depth_m None"),
            ({"mode": "scaled", "depth_scale": 1000}, "max_depth_m None"),
            ({"mode": "released", "depth_scale": 0}, "depth_scale 0"),
            ({"mode": "scaled", "max_depth_m": 1, "max_share": 0}, "max_share"),
            ({"mode": "scaled", "max_depth_m": 1, "probability": 2}, "probability"),
        ],
    )
    def test_nonsense(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            CutDepth(**arguments)


class TestEveryNth:
    def test_turn(self, sample):
        from dataclasses import replace

        cut = EveryNth(CutDepth(mode="scaled", max_depth_m=10), every=4)
        generator = np.random.default_rng(0)
        is_cut = [bool((cut(replace(sample, turn=turn), generator).image != 7).any()) for turn in range(9)]
        assert is_cut == [True, False, False, False, True, False, False, False, True]

    def test_nonsense(self):
        with pytest.raises(ValueError, match="every"):
            EveryNth(CutDepth(mode="scaled", max_depth_m=10), every=0)
