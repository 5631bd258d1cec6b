import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.io.depth_files import DepthEncoding, read_depth_m
from metaprompts.errors import InputError


class TestScale:
    @pytest.mark.parametrize("scale", [0, -1, 1e-50, 1e-7, 1e10, float("inf"), float("nan")])
    def test_out_of_range(self, scale):
        """--data.depth_scale 1e-50 made depth infinite, which data check called sky."""
        with pytest.raises(InputError, match=r"depth_scale is \S+; expected 1e-06 to 1e\+09"):
            DepthEncoding(depth_scale=scale)

    def test_overflow_is_no_measurement(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[1e37, 1e-6]]))
        assert read_depth_m(tmp_path / "a.npy", DepthEncoding(depth_scale=1e-6)).tolist() == [[0, 1]]


class TestDepth:
    def test_16_bit(self, tmp_path):
        Image.fromarray(np.array([[0, 1500], [65535, 256]], np.uint16)).save(tmp_path / "a.png")
        depth_m = read_depth_m(tmp_path / "a.png", DepthEncoding(depth_scale=1000))
        assert depth_m.dtype == np.float32
        assert depth_m == pytest.approx(np.array([[0, 1.5], [65.535, 0.256]]))
        assert read_depth_m(tmp_path / "a.png", DepthEncoding(depth_scale=256))[1, 1] == 1

    @pytest.mark.parametrize(("mode", "named"), [("L", "8-bit gray"), ("RGB", "RGB"), ("P", "palette")])
    def test_other_images(self, tmp_path, mode, named):
        Image.new(mode, (4, 3)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"a.png is {named} 3x4.*16-bit PNG"):
            read_depth_m(tmp_path / "a.png", DepthEncoding(depth_scale=1000))

    def test_a_tiff_whose_header_says_that_it_is_larger(self, tmp_path):
        """Of a file of 600 bytes that said 16,777,228 rows, 16,777,216 were depth 0 without a word."""
        Image.fromarray(np.ones((12, 10), np.float32)).save(tmp_path / "a.tiff")
        content = (tmp_path / "a.tiff").read_bytes()
        rows = struct.pack("<HHII", 257, 4, 1, 12)
        assert rows in content
        (tmp_path / "a.tiff").write_bytes(content.replace(rows, struct.pack("<HHII", 257, 4, 1, 99)))
        with pytest.raises(InputError, match=r"a.tiff is broken or truncated \(its strips do not cover the image"):
            read_depth_m(tmp_path / "a.tiff", DepthEncoding())

    def test_array(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[1.25, np.nan, np.inf, -np.inf, 0]]))
        depth_m = read_depth_m(tmp_path / "a.npy", DepthEncoding())
        assert depth_m.dtype == np.float32
        assert depth_m.tolist() == [[1.25, 0, 0, 0, 0]]

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.array([[1.0, -0.5]]), "negative"),
            (np.zeros((2, 2, 1)), r"float64 \(2, 2, 1\); expected one number per pixel"),
            (np.array([[None]]), r"object \(1, 1\)"),
            (np.array([["a"]]), r"<U1 \(1, 1\)"),
            (np.zeros((0, 4)), r"float64 \(0, 4\)"),
        ],
    )
    def test_bad_arrays(self, tmp_path, array, words):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=f"a.npy .*{words}"):
            read_depth_m(tmp_path / "a.npy", DepthEncoding(depth_scale=1000))

    @pytest.mark.parametrize("content", [b"text", b"\x93NUMPY\x01\x00"])
    def test_broken_arrays(self, tmp_path, content):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npy is not an .npy array"):
            read_depth_m(tmp_path / "a.npy", DepthEncoding(depth_scale=1000))

    def test_missing_array(self, tmp_path):
        with pytest.raises(InputError, match=r"a\.npy does not exist"):
            read_depth_m(tmp_path / "a.npy", DepthEncoding(depth_scale=1000))

    @pytest.mark.parametrize("units", [0, -1, float("nan")])
    def test_units(self, tmp_path, units):
        with pytest.raises(InputError, match="depth_scale"):
            read_depth_m(tmp_path / "a.png", DepthEncoding(depth_scale=units))

    def test_real_depth(self, shared_data):
        """The ranges are those the data's own README states."""
        room = read_depth_m(shared_data / "depth/misc/depth/sun_bookshelf.png", DepthEncoding(depth_scale=1000))
        assert room.shape == (244, 320)
        assert (round(float(room.min()), 2), round(float(room.max()), 2)) == (1.43, 2.51)
        drive = "formats/kitti/data_depth_annotated/train/2011_09_26_drive_0000_sync/proj_depth/groundtruth/image_02"
        lidar = read_depth_m(shared_data / drive / "0000000005.png", DepthEncoding(depth_scale=256))
        assert lidar.shape == (375, 1242)
        assert 0.1 < (lidar > 0).mean() < 0.3
        assert 1 < lidar[lidar > 0].min() < lidar.max() < 90


STORED = np.array([[0, 1500, 65535], [256, 1, 2]])


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)


def pfm(path, array, kind="<"):
    sign = {"<": "-", ">": ""}[kind]
    header = f"Pf\n{array.shape[1]} {array.shape[0]}\n{sign}0.0039\n".encode()
    path.write_bytes(header + array[::-1].astype(f"{kind}f4").tobytes())


def tiff(path, array, sample_format):
    """A TIFF written byte by byte: Pillow writes neither float64 nor float16."""
    content = array.tobytes()
    (height, width), bits = array.shape, array.itemsize * 8
    tags = ((256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height))
    tags += ((279, len(content)), (339, sample_format))
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory + bytes(4))


class TestFormats:
    """Only 16-bit PNG and float .npy were read: of all else nothing said which formats are."""

    @pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
    def test_integers(self, tmp_path, dtype):
        """An integer .npy was refused, whatever data.depth_scale said."""
        stored = STORED.astype(dtype)
        np.save(tmp_path / "a.npy", stored)
        npz(tmp_path / "a.npz", depth=stored)
        for name in ("a.npy", "a.npz"):
            assert read_depth_m(tmp_path / name, DepthEncoding()) == pytest.approx(stored / 1000)
            assert read_depth_m(tmp_path / name, DepthEncoding(depth_scale=5)) == pytest.approx(stored / 5)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8])
    def test_8_bit_arrays_need_units(self, tmp_path, dtype):
        """A uint8 .npy of 40 to 100 was trained on as 0.04 to 0.10 m; the same values as 8-bit PNG were refused."""
        stored = np.array([[40, 100]], dtype)
        np.save(tmp_path / "a.npy", stored)
        npz(tmp_path / "a.npz", depth=stored)
        for name in ("a.npy", "a.npz"):
            with pytest.raises(InputError, match=rf"{name} is u?int8; .* of millimeters .*data.depth_scale"):
                read_depth_m(tmp_path / name, DepthEncoding())
            assert read_depth_m(tmp_path / name, DepthEncoding(depth_scale=5)).tolist() == [[8, 20]]

    @pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.tif", "64.tif", "a.pfm", "b.pfm", "z.exr", "rgb.exr"])
    def test_floats(self, tmp_path, name):
        stored = np.array([[1.5, np.nan, np.inf], [0, 70.25, 0.125]], np.float32)
        path = tmp_path / name
        if name.endswith("exr"):
            library = pytest.importorskip("OpenEXR")
            channels = {"RGB": np.repeat(stored[:, :, None], 3, axis=2)} if name == "rgb.exr" else {"Z": stored}
            library.File({"type": library.scanlineimage}, channels).write(str(path))
        else:
            write = {
                "a.npy": lambda: np.save(path, np.asfortranarray(stored)),
                "a.npz": lambda: npz(path, arr_0=stored, mask=stored > 1),
                "a.tif": lambda: Image.fromarray(stored).save(path),
                "64.tif": lambda: tiff(path, stored.astype(np.float64), 3),
                "a.pfm": lambda: pfm(path, stored),
                "b.pfm": lambda: pfm(path, stored, ">"),
            }
            write[name]()
        measured = np.array([[1.5, 0, 0], [0, 70.25, 0.125]])
        assert read_depth_m(path, DepthEncoding()).tolist() == measured.tolist()
        assert read_depth_m(path, DepthEncoding(depth_scale=1000)) == pytest.approx(measured / 1000)

    @pytest.mark.parametrize("name", ["a.h5", "a.dpt", "a.mat"])
    def test_another_format_is_named(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(InputError, match=rf"{name} is not an image.*give 16-bit PNG, TIFF or PGM, float TIFF, PFM"):
            read_depth_m(tmp_path / name, DepthEncoding())

    def test_floats_of_16_bits(self, tmp_path):
        tiff(tmp_path / "a.tif", np.ones((2, 3), np.float16), 3)
        with pytest.raises(InputError, match=r"a\.tif is a TIFF of 16-bit floats"):
            read_depth_m(tmp_path / "a.tif", DepthEncoding())

    def test_channels_of_an_exr(self, tmp_path):
        library = pytest.importorskip("OpenEXR")
        first, other = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
        library.File({"type": library.scanlineimage}, {"A": first, "B": other}).write(str(tmp_path / "a.exr"))
        with pytest.raises(InputError, match=r"a\.exr has the channels A, B; expected one, or one called Z"):
            read_depth_m(tmp_path / "a.exr", DepthEncoding())

    def test_arrays_of_an_npz(self, tmp_path):
        npz(tmp_path / "a.npz", near=STORED, far=STORED)
        with pytest.raises(
            InputError, match=r"a\.npz holds 'near', 'far'; expected a single array, or one named depth"
        ):
            read_depth_m(tmp_path / "a.npz", DepthEncoding())


class TestKinds:
    @pytest.mark.parametrize(
        ("stored", "encoding", "meters"),
        [
            ([[0.0, 0.5, 4.0]], DepthEncoding(kind="inverse"), [0, 2, 0.25]),
            ([[0, 500, 4000]], DepthEncoding(kind="inverse", depth_scale=1000), [0, 2, 0.25]),
            ([[0.0, 10.0, 1e-45]], DepthEncoding(kind="disparity", focal_baseline=20.0), [0, 2, 0]),
            ([[0, 2560]], DepthEncoding(kind="disparity", focal_baseline=20.0, depth_scale=256), [0, 2]),
        ],
    )
    def test_inverse_and_disparity(self, tmp_path, stored, encoding, meters):
        """Disparity was taken for depth: what is near became far."""
        np.save(tmp_path / "a.npy", np.array(stored))
        assert read_depth_m(tmp_path / "a.npy", encoding).tolist() == [meters]

    def test_integers_of_disparity_need_units(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[1]]))
        with pytest.raises(InputError, match=r"holds integers of inverse: set data\.depth_scale"):
            read_depth_m(tmp_path / "a.npy", DepthEncoding(kind="inverse"))

    @pytest.mark.parametrize(
        "settings", [{"kind": "disparity"}, {"kind": "disparity", "focal_baseline": -1.0}, {"focal_baseline": 1.0}]
    )
    def test_focal_baseline(self, settings):
        with pytest.raises(InputError, match="focal_baseline"):
            DepthEncoding(**settings)


class TestDamage:
    """Headers of .npy files raised nine kinds of errors; one of 128 bytes could claim all memory."""

    HEADERS = (
        b"",
        b"{",
        b"{'descr': '<f4'}",
        b"[" * 9000,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 1), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': ('a', 1), }",
        b"{'descr': '<f4', 'fortran_order': 3, 'shape': (1, 1), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 1), }",
        b"{'descr': '<m8[ns]', 'fortran_order': False, 'shape': (1, 1), }",
        b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (1, 1), }",
        b"\xff\xfe",
    )

    @pytest.mark.parametrize("header", HEADERS)
    @pytest.mark.parametrize("version", [1, 2, 3, 9])
    def test_headers(self, tmp_path, header, version):
        size = struct.pack("<H" if version == 1 else "<I", len(header))
        content = b"\x93NUMPY" + bytes([version, 0]) + size + header + bytes(4)
        (tmp_path / "a.npy").write_bytes(content)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("depth.npy", content)
        for name in ("a.npy", "a.npz"):
            with pytest.raises(InputError, match=name) as caught:
                read_depth_m(tmp_path / name, DepthEncoding())
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.tif", "a.png", "a.pfm", "a.exr"])
    def test_cut_off(self, tmp_path, name):
        path, stored = tmp_path / name, np.random.default_rng(0).random((32, 32)).astype(np.float32)
        if name == "a.exr":
            library = pytest.importorskip("OpenEXR")
            library.File({"type": library.scanlineimage}, {"Z": stored}).write(str(path))
        else:
            write = {
                "a.npy": lambda: np.save(path, stored),
                "a.npz": lambda: npz(path, depth=stored),
                "a.tif": lambda: Image.fromarray(stored).save(path),
                "a.png": lambda: Image.fromarray((stored * 1000).astype(np.uint16)).save(path),
                "a.pfm": lambda: pfm(path, stored),
            }
            write[name]()
        whole = path.read_bytes()
        for size in (1, 20, len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:size])
            with pytest.raises(InputError, match=name) as caught:
                read_depth_m(path, DepthEncoding())
            assert "\n" not in str(caught.value)

    def test_a_compressed_array_larger_than_any_image(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", npy(np.zeros((1, 2**26 + 1), np.uint8)))
        with pytest.raises(InputError, match=r"expected at most 67108864 pixels"):
            read_depth_m(tmp_path / "a.npz", DepthEncoding())
