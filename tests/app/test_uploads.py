"""Uploads that are not images within the limits, and the folders of results."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaprompts.app.results import Results, for_page, view_scale
from metaprompts.app.settings import Limits
from metaprompts.app.uploads import read_upload, safe_suffix
from metaprompts.errors import InputError

LIMITS = Limits(upload_bytes=20_000, side_px=256, queue=4, timeout_s=60)


def bomb(path: Path) -> None:
    """A PNG whose header claims 40000 x 40000 pixels."""
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (lambda path: path.write_text("not an image"), "the uploaded file is not an image"),
        (lambda path: path.write_bytes(b""), r"the uploaded file is empty \(0 bytes\)"),
        (truncated, "the uploaded file is broken or truncated"),
        (bomb, "the uploaded file: expected sides of up to 256 pixels, got 40000 x 40000"),
        (lambda path: Image.new("RGB", (257, 8)).save(path), "got 257 x 8"),
        (lambda path: path.write_bytes(bytes(20_001)), r"the uploaded file is larger than 19\.5 KiB"),
    ],
)
def test_bad_uploads_are_one_line_without_paths(tmp_path, write, line):
    """The page showed the server's temporary folder, or a traceback of Pillow."""
    path = tmp_path / "upload.png"
    write(path)
    with pytest.raises(InputError, match=line) as caught:
        read_upload(path, LIMITS, lambda height, width: None)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_uploads_that_do_not_fit_in_memory(tmp_path):
    def too_large(height: int, width: int) -> None:
        raise InputError(f"{height}x{width} do not fit")

    Image.new("RGB", (10, 20)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="the uploaded file: 20x10 do not fit"):
        read_upload(tmp_path / "a.png", LIMITS, too_large)


def test_only_suffixes_of_images_are_kept():
    assert [safe_suffix(Path(name)) for name in ("a.JPG", "a.sh", "a")] == [".jpg", ".png", ".png"]


def test_the_oldest_files_are_removed(tmp_path):
    """A server that runs for weeks would fill the disk."""
    results = Results(tmp_path, most_bytes=2500)
    for number in range(4):
        path = tmp_path / f"upload{number}"
        path.write_bytes(bytes(1000))
        os.utime(path, (number, number))
    name = results.new().folder.name
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["upload2", "upload3", name])
    with pytest.raises(InputError, match="has expired: predict the image again"):
        results.get(name)
    with pytest.raises(InputError, match="there is no prediction yet"):
        results.get(None)


def test_pictures_have_a_size_for_the_page():
    assert for_page(np.zeros((64, 96, 3), np.uint8)).size == (768, 512)
    assert for_page(np.zeros((2000, 3200, 3), np.uint8)).size == (1600, 1000)
    assert view_scale((1000, 1200)) == 1
