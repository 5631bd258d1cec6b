import colorsys

import numpy as np
import pytest

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.color import (
    DepthColor,
    PhotometricDistortion,
    raise_levels,
    scale_levels,
    shift_hsv,
)


def pixel(*rgb):
    return np.array([[rgb]], np.uint8)


def sample(*rgb):
    return Sample(image=pixel(*rgb), path="")


def random_image():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


class TestLevels:
    def test_scale_clips_and_cuts_off(self):
        assert scale_levels(pixel(0, 100, 250), 1.5, -0.4).ravel().tolist() == [0, 149, 255]

    def test_scale_equals_arithmetic(self):
        image = random_image()
        expected = (image.astype(np.float32) * 0.7 + 20.25).clip(0, 255).astype(np.uint8)
        assert np.array_equal(scale_levels(image, 0.7, 20.25), expected)

    def test_gamma(self):
        """255 * (64 / 255) ** 0.5 = 127.7."""
        assert raise_levels(pixel(0, 64, 255), 0.5).ravel().tolist() == [0, 127, 255]


class TestHsv:
    @pytest.mark.parametrize(("hue", "expected"), [(60, [0, 255, 0]), (120, [0, 0, 255]), (-60, [0, 0, 255])])
    def test_hue_turns(self, hue, expected):
        """Units of 2 degrees: 60 turns red by a third, to green."""
        assert shift_hsv(pixel(255, 0, 0), hue=hue).ravel().tolist() == expected

    def test_fractions_of_hue_are_cut_off(self):
        """As the released depth code's albumentations: red's hue 0 - 0.5 is 179.5, of which 179 remains."""
        red = shift_hsv(pixel(255, 0, 0), hue=-0.5)
        assert red.ravel().tolist() == shift_hsv(pixel(255, 0, 0), hue=-1).ravel().tolist() != [255, 0, 0]
        assert shift_hsv(pixel(255, 0, 0), hue=0.9).ravel().tolist() == [255, 0, 0]

    def test_value_and_saturation(self):
        assert shift_hsv(pixel(100, 100, 100), value_offset=20).ravel().tolist() == [120, 120, 120]
        assert shift_hsv(pixel(200, 100, 100), saturation_factor=0).ravel().tolist() == [200, 200, 200]

    def test_agrees_with_colorsys(self):
        image = random_image()
        changed = shift_hsv(image, hue=11, saturation_factor=0.8, saturation_offset=10, value_offset=-9)
        for old, new in zip(image.reshape(-1, 3) / 255, changed.reshape(-1, 3) / 255, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*old)
            saturation = min(max(saturation * 0.8 + 10 / 255, 0), 1)
            value = min(max(value - 9 / 255, 0), 1)
            # 8-bit hue has steps of 2 degrees, which is up to 5 gray levels.
            assert np.abs(np.array(colorsys.hsv_to_rgb(hue + 22 / 360, saturation, value)) - new).max() < 7 / 255


class TestPhotometricDistortion:
    def test_nothing_drawn(self, script):
        image = random_image()
        changed = PhotometricDistortion()(Sample(image=image, path=""), script(0.9, 0.9, 0.9, 0.9, 0.9))
        assert np.array_equal(changed.image, image)

    def test_brightness(self, script):
        changed = PhotometricDistortion()(sample(10, 20, 250), script(0.1, 32.0, 0.9, 0.9, 0.9, 0.9))
        assert changed.image.ravel().tolist() == [42, 52, 255]

    @pytest.mark.parametrize(
        ("first", "expected"),
        [
            # x 1.5 clips red to 255, and half the saturation lifts the others: 150 -> 255 - 105 / 2.
            (0.1, [255, 202, 202]),
            # Half the saturation first: (200, 150, 150), then x 1.5.
            (0.9, [255, 225, 225]),
        ],
    )
    def test_contrast_before_or_after_saturation(self, script, first, expected):
        draws = script(0.9, first, 0.1, 1.5, 0.1, 0.5, 0.9)
        changed = PhotometricDistortion()(sample(200, 100, 100), draws).image.ravel().astype(int)
        assert changed == pytest.approx(expected, abs=2)

    def test_hue(self, script):
        changed = PhotometricDistortion(hue=60)(sample(255, 0, 0), script(0.9, 0.9, 0.9, 0.9, 0.1, 60))
        assert changed.image.ravel().tolist() == [0, 255, 0]


class TestDepthColor:
    def test_nothing_drawn(self, script):
        image = random_image()
        assert np.array_equal(DepthColor()(Sample(image=image, path=""), script(0.9, 0.9, 0.9)).image, image)

    def test_brightness_is_relative_to_255(self, script):
        """100 x 0.8 + 0.2 x 255 = 131."""
        changed = DepthColor()(sample(100, 0, 255), script(0.1, -0.2, 0.2, 0.9, 0.9))
        assert changed.image.ravel().tolist() == [131, 51, 255]

    def test_gamma(self, script):
        changed = DepthColor()(sample(64, 0, 255), script(0.9, 0.1, 0.8, 0.9))
        assert changed.image.ravel().tolist() == [84, 0, 255]

    def test_hsv(self, script):
        """Value 200 + 20, saturation 255 - 30: the lowest channel is 220 x 30 / 255 = 26."""
        changed = DepthColor()(sample(200, 0, 0), script(0.9, 0.9, 0.1, 0.0, -1.0, 1.0))
        assert changed.image.ravel().astype(int) == pytest.approx([220, 26, 26], abs=1)
