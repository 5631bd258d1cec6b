import logging
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from metaprompts.data.config.depth import DepthData
from metaprompts.data.io import decoding
from metaprompts.data.io.decoding import decode, to_rgb
from metaprompts.data.io.images import read_image
from metaprompts.errors import InputError
from metaprompts.utils import batches
from open_split import open_split


@pytest.fixture(autouse=True)
def advised(monkeypatch):
    monkeypatch.setattr(decoding, "_advised", set())


def gray(path, values):
    Image.fromarray(np.array(values, np.uint16)).save(path)
    return path


class TestWhiteLevel:
    @pytest.mark.parametrize("suffix", ["png", "tif"])
    @pytest.mark.parametrize("bits", [10, 12, 14])
    def test_gray(self, tmp_path, caplog, suffix, bits):
        """12-bit images in files of 16 bits were nearly black, without a word."""
        white = 2**bits - 1
        path = gray(tmp_path / f"a.{suffix}", [[0, white // 3, white]])
        with caplog.at_level(logging.WARNING):
            assert read_image(path).max() <= 64
            read_image(path)
        assert caplog.text.count("nearly black") == 1
        assert f"set the white level to {white}" in caplog.text
        assert read_image(path, white_level=white)[0, :, 0].tolist() == [0, 85, 255]

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_color(self, tmp_path, caplog, suffix):
        """Of these Pillow keeps the upper 8 bits: 12 bits would be 16 levels."""
        path = tmp_path / f"a.{suffix}"
        red_green_blue = np.array([[[4095, 1000, 8]]], np.uint16)
        cv2.imwrite(str(path), red_green_blue[..., ::-1])
        with caplog.at_level(logging.WARNING):
            read_image(path)
        assert "set the white level to 4095" in caplog.text
        assert read_image(path, white_level=4095)[0, 0].tolist() == [255, 62, 0]

    def test_transparency(self, tmp_path):
        blue_green_red_alpha = np.array([[[0, 0, 4095, 65535], [0, 0, 4095, 0]]], np.uint16)
        cv2.imwrite(str(tmp_path / "a.png"), blue_green_red_alpha)
        assert read_image(tmp_path / "a.png", white_level=4095)[0].tolist() == [[255, 0, 0], [255, 255, 255]]

    def test_full_range(self, tmp_path, caplog):
        path = gray(tmp_path / "a.png", [[0, 16384]])
        assert read_image(path).tolist() == read_image(path, white_level=65535).tolist()
        Image.new("I;16", (2, 2)).save(tmp_path / "black.png")
        read_image(tmp_path / "black.png")
        Image.new("L", (2, 2), 3).save(tmp_path / "dark.png")
        assert read_image(tmp_path / "dark.png", white_level=10).max() == 3
        assert not caplog.text

    def test_values_beyond(self, tmp_path, caplog):
        path = gray(tmp_path / "a.png", [[0, 2000]])
        assert read_image(path, white_level=1023)[0, 1, 0] == 255
        assert "values up to 2000, beyond the white level of 1023" in caplog.text

    def test_floats(self, tmp_path):
        Image.fromarray(np.array([[0, 500, 1000]], np.float32)).save(tmp_path / "a.tif")
        assert read_image(tmp_path / "a.tif", white_level=1000)[0, :, 0].tolist() == [0, 128, 255]

    @pytest.mark.parametrize(
        ("values", "dtype", "words"),
        [
            ([0, 4000], np.float32, r"floats up to 4000; .* white: set the white level .*--white-level.* 4095.* 4000"),
            ([0, 1e6], np.float32, "floats up to 1e.06; .* scale it, or set the white level"),
            ([0, 0.001], np.float32, "floats up to 0.001; .* nearly black"),
            ([0, 2.5], np.float32, "floats up to 2.5; .* nearly black: set the white level to 3 "),
            ([-3, -1], np.float32, "values from -3 to -1: those below 0 become black"),
            ([-3, -1], np.int32, "values from -3 to -1: those below 0 become black"),
            ([0, 1000000], np.int32, "values up to 1000000, and all values beyond 65535 become white: scale it"),
            ([0, 0.5], np.float32, None),
            ([0, 1], np.float32, None),
            ([0, 200], np.float32, None),
            ([0, 255, np.nan], np.float32, None),
            ([0, 60000], np.int32, None),
            ([0, 0], np.float32, None),
        ],
    )
    def test_values_that_turn_white_or_black(self, tmp_path, caplog, values, dtype, words):
        """Floats of 0 to 4000 or below 0.001, negative ones and large integers were white or black without a word."""
        Image.fromarray(np.array([values], dtype)).save(tmp_path / "a.tif")
        for _ in range(2):
            read_image(tmp_path / "a.tif")
        assert [record.levelname for record in caplog.records] == ["WARNING"] * (words is not None)
        assert words is None or re.search(rf"a\.tif has {words}", caplog.text)

    @pytest.mark.parametrize("white_level", [0, -1, 65536])
    def test_impossible(self, tmp_path, white_level):
        with pytest.raises(InputError, match=rf"the white level is {white_level}; expected 1 to 65535"):
            read_image(gray(tmp_path / "a.png", [[1]]), white_level=white_level)

    def test_of_a_recipe(self, tmp_path):
        gray(tmp_path / "a.png", [[0, 4095]])
        gray(tmp_path / "d.png", [[1, 2]])
        (tmp_path / "train.txt").write_text("a.png d.png\n")
        (sample,) = open_split(DepthData(root=tmp_path, white_level=4095), "train")
        assert sample.image[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_bands_are_seamless(mode, monkeypatch):
    """Images are converted in bands, for their copies not to take gigabytes; no pixel shows it."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 13, 4), dtype=np.uint8)
    if mode in ("I", "I;16", "F"):
        values = noise[..., 0].astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode])
        image = Image.fromarray(values * 250 if mode != "F" else values / 300)
    else:
        image = Image.fromarray(noise, "RGBA").convert("RGB" if mode in ("CMYK", "YCbCr", "P") else mode).convert(mode)
    whole = to_rgb(image, "it")
    monkeypatch.setattr(batches, "_BAND_PIXELS", 13 * 5)
    assert np.array_equal(to_rgb(image, "it"), whole)
    assert whole.std() > 10


def test_size_is_judged_before_anything_is_decoded(tmp_path, monkeypatch):
    """Pillow's limit is not that of the memory there is: 300 megapixels were refused, whatever --max-memory said."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)
    # Larger than twice the limit, but not its bands: Pillow below 13 applies the limit to them, too.
    Image.new("L", (2048, 1100)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="too large to decode safely"):
        decode(tmp_path / "a.png")
    seen = []
    assert decode(tmp_path / "a.png", check_size=lambda *size: seen.append(size)).pixels.shape == (1100, 2048, 3)
    assert seen == [(2048, 1100)]
    assert Image.MAX_IMAGE_PIXELS == 2**20

    def reject(width, height):
        raise InputError(f"{width} by {height}")

    with pytest.raises(InputError, match=r"image .*a\.png: 2048 by 1100"):
        decode(tmp_path / "a.png", check_size=reject)
