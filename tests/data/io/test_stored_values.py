"""Values of gray files with few bits or an unusual maximum are the stored ones."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from metaprompts.data.io.depth_files import DepthEncoding, read_depth_m
from metaprompts.data.io.images import read_image
from metaprompts.data.io.labels import read_index_mask
from metaprompts.errors import InputError


def gray_png(path, rows, bits):
    """A PNG of 2 or 4 bits, which Pillow does not write; rows fill whole bytes."""
    height, width = np.shape(rows)
    scanlines = b"".join(
        b"\0" + int("".join(f"{value:0{bits}b}" for value in row), 2).to_bytes(width * bits // 8, "big") for row in rows
    )
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b""))
    written = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    return path


def netpbm(path, values, maximum, *, plain=False):
    values = np.array(values)
    kind = {(2, False): "P5", (2, True): "P2", (3, False): "P6", (3, True): "P3"}[values.ndim, plain]
    header = f"{kind} # made here\n{values.shape[1]} {values.shape[0]}\n{maximum}\n".encode()
    body = (
        " ".join(map(str, values.ravel())).encode()
        if plain
        else values.astype(">u2" if maximum > 255 else "u1").tobytes()
    )
    path.write_bytes(header + body)
    return path


class TestMasks:
    @pytest.mark.parametrize(("bits", "rows"), [(2, [[0, 1, 2, 3], [3, 0, 0, 1]]), (4, [[0, 1], [7, 15]])])
    def test_png_of_few_bits(self, tmp_path, bits, rows):
        """Class 1 of a gray PNG of 4 bits, as ImageMagick writes it, was read as 17; of 2 bits as 85."""
        mask = read_index_mask(gray_png(tmp_path / "a.png", rows, bits))
        assert mask.dtype == np.uint8
        assert mask.tolist() == rows

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("maximum", [1, 3, 100, 254, 255, 256, 1000, 65534, 65535])
    def test_pgm(self, tmp_path, maximum, plain):
        """A mask "P5 64 64 1" of 0 and 1 was read as 0 and 255."""
        rows = [list(range(maximum + 1))]
        assert read_index_mask(netpbm(tmp_path / "a.pgm", rows, maximum, plain=plain)).tolist() == rows

    def test_pgm_that_is_cut_off(self, tmp_path):
        path = netpbm(tmp_path / "a.pgm", np.ones((9, 9), int), 1)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match="broken or truncated"):
            read_index_mask(path)


class TestDepth:
    @pytest.mark.parametrize("plain", [False, True])
    def test_pgm(self, tmp_path, plain):
        """1000 to 4000 mm in "P5 64 64 10000" were 6.5 to 26.2 m."""
        path = netpbm(tmp_path / "a.pgm", [[0, 1000, 2500, 4000]], 10000, plain=plain)
        assert read_depth_m(path, DepthEncoding()).tolist() == [[0, 1, 2.5, 4]]

    def test_values_above_the_maximum(self, tmp_path):
        path = netpbm(tmp_path / "a.pgm", [[1000, 5000]], 4095)
        assert read_depth_m(path, DepthEncoding()).tolist() == [[1, 5]]


class TestImages:
    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("white_level", [None, 4095])
    def test_gray(self, tmp_path, white_level, plain):
        """An image "P5 64 64 4095" read with --white-level 4095 was all but white."""
        path = netpbm(tmp_path / "a.pgm", [[0, 819, 4095]], 4095, plain=plain)
        assert read_image(path, white_level=white_level)[0, :, 0].tolist() == [0, 51, 255]

    def test_a_lower_white_level(self, tmp_path):
        path = netpbm(tmp_path / "a.pgm", [[0, 819, 4095]], 4095)
        assert read_image(path, white_level=1638)[0, :, 0].tolist() == [0, 128, 255]

    @pytest.mark.parametrize(
        ("white_level", "read"), [(None, [0, 51, 255]), (4095, [0, 51, 255]), (1638, [0, 128, 255])]
    )
    def test_color(self, tmp_path, white_level, read):
        """A white level was ignored without a word for PPM of more than 8 bits."""
        path = netpbm(tmp_path / "a.ppm", [[[0, 819, 4095]]], 4095)
        assert read_image(path, white_level=white_level)[0, 0].tolist() == read

    def test_dark_without_advice(self, tmp_path, caplog):
        read_image(netpbm(tmp_path / "a.pgm", [[0, 9]], 4095))
        read_image(netpbm(tmp_path / "a.ppm", [[[0, 9, 9]]], 4095))
        assert not caplog.text


def test_opencv_agrees(tmp_path):
    rows = np.arange(64).reshape(8, 8) * 64
    path = netpbm(tmp_path / "a.pgm", rows, 4095)
    assert (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == rows).all()
    assert (read_index_mask(path) == rows).all()


def test_tiff_of_4_bits(tmp_path):
    fields = {256: 4, 257: 1, 258: 4, 259: 1, 262: 1, 273: 200, 277: 1, 278: 1, 279: 2}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + directory + bytes(4)
    (tmp_path / "a.tif").write_bytes(head.ljust(200, b"\0") + bytes([0x01, 0x7F]))
    assert Image.open(tmp_path / "a.tif").size == (4, 1)
    assert read_index_mask(tmp_path / "a.tif").tolist() == [[0, 1, 7, 15]]
