import struct

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.io.depth_files import DepthEncoding, read_depth_m
from metaprompts.data.io.images import read_image
from metaprompts.errors import InputError


def noise(mode):
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    ("compression", "mode"), [("tiff_lzw", "RGB"), ("tiff_deflate", "RGB"), ("jpeg", "RGB"), ("group4", "1")]
)
def test_damage_is_one_line_and_noticed(tmp_path, capfd, compression, mode):
    """libtiff printed lines of its own; of JPEG and fax data Pillow passed damage on as good pixels."""
    path = tmp_path / "a.tif"
    noise(mode).save(path, compression=compression)
    assert read_image(path).shape == (64, 64, 3)
    content = bytearray(path.read_bytes())
    for place in range(100, 900, 7):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif is broken or truncated") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_opencv_is_quiet_too(tmp_path, capfd):
    """It reads floats of 64 bits, and prints what is wrong with a file."""
    tags = ((256, 4), (257, 4), (258, 64), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, 128), (339, 3))
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + directory)
    with pytest.raises(InputError, match=r"a\.tif is a TIFF of 64-bit floats that cannot be read"):
        read_depth_m(tmp_path / "a.tif", DepthEncoding())
    assert capfd.readouterr().err == ""
