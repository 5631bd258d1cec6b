import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.io.depth_files import DepthEncoding, read_depth_m
from metaprompts.data.io.images import as_image, list_images, read_image
from metaprompts.data.io.labels import read_index_mask
from metaprompts.errors import InputError


def assert_error(path, words):
    with pytest.raises(InputError, match=words) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message


class TestKinds:
    """Every kind of image becomes (H, W, 3) uint8 RGB with the colors a viewer shows."""

    @pytest.mark.parametrize(
        ("mode", "color", "expected"),
        [
            ("RGB", (10, 20, 30), (10, 20, 30)),
            ("L", 77, (77, 77, 77)),
            ("1", 1, (255, 255, 255)),
            ("RGBA", (200, 0, 100, 255), (200, 0, 100)),
            # A transparent pixel shows the white below, whatever color it hides.
            ("RGBA", (200, 0, 100, 0), (255, 255, 255)),
            ("RGBA", (0, 0, 0, 102), (153, 153, 153)),
            ("LA", (0, 0), (255, 255, 255)),
            ("I;16", 65535, (255, 255, 255)),
            ("I;16", 257 * 40, (40, 40, 40)),
            ("I;16", 60000, (233, 233, 233)),
            ("I;16", 257 * 40 + 129, (41, 41, 41)),
        ],
    )
    def test_png(self, tmp_path, mode, color, expected):
        path = tmp_path / "a.png"
        Image.new(mode, (3, 2), color).save(path)
        image = read_image(path)
        assert image.shape == (2, 3, 3)
        assert image.dtype == np.uint8
        assert image[1, 2].tolist() == list(expected)

    @pytest.mark.parametrize(
        ("mode", "color", "expected"),
        [
            ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
            ("I", 65535, (255, 255, 255)),
            ("F", 1.0, (255, 255, 255)),
            ("F", 0.2, (51, 51, 51)),
            ("F", 200.0, (200, 200, 200)),
            ("F", float("nan"), (0, 0, 0)),
        ],
    )
    def test_tiff(self, tmp_path, mode, color, expected):
        path = tmp_path / "a.tif"
        Image.new(mode, (3, 2), color).save(path)
        assert read_image(path)[0, 0].tolist() == list(expected)

    def test_palette_with_transparency(self, tmp_path):
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "opaque.png")
        image.save(tmp_path / "clear.png", transparency=1)
        assert read_image(tmp_path / "opaque.png")[0].tolist() == [[255, 0, 0], [0, 0, 255]]
        assert read_image(tmp_path / "clear.png")[0].tolist() == [[255, 0, 0], [255, 255, 255]]

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, tmp_path, suffix, orientation):
        """The gray levels of the upright image are known; each file stores them turned."""
        upright = np.repeat(np.repeat(np.array([[0, 60, 120], [180, 220, 255]], np.uint8), 16, 0), 16, 1)
        turned = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.T,
            6: np.rot90(upright, 1),
            7: upright[::-1, ::-1].T,
            8: np.rot90(upright, -1),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif, quality=95)
        image = read_image(path)
        assert image.shape == (32, 48, 3)
        assert image[8::16, 8::16, 0].astype(int) == pytest.approx(upright[8::16, 8::16].astype(int), abs=3)

    @pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
    def test_first_frame_of_several(self, tmp_path, caplog, suffix):
        """Further pages of a TIFF and frames of a GIF were dropped without a word."""
        frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "green")]
        path = tmp_path / f"a.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        for _ in range(2):
            assert read_image(path)[0, 0].tolist() == [255, 0, 0]
        assert [each.message for each in caplog.records] == [f"image {path} has 3 frames: only the first is read"]

    def test_previews_are_no_frames(self, tmp_path, caplog):
        frames = [Image.new("L", (4, 4), 7), Image.new("L", (2, 2), 7)]
        frames[1].encoderinfo = {"tiffinfo": {254: 1}}
        frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
        with Image.open(tmp_path / "a.tif") as image:
            assert image.n_frames == 2
        read_image(tmp_path / "a.tif")
        assert read_index_mask(tmp_path / "a.tif").shape == (4, 4)
        assert not caplog.text

    @pytest.mark.parametrize("suffix", ["gif", "tif"])
    def test_labels_of_several_frames(self, tmp_path, suffix):
        """Of label masks in a multi-page TIFF or a GIF all pages but the first were lost."""
        frames = [Image.new("L", (4, 4), value) for value in (1, 2)]
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match=rf"label file .*a\.{suffix} has 2 frames; expected one"):
            read_index_mask(tmp_path / f"a.{suffix}")

    @pytest.mark.parametrize("dtype", [np.float32, np.uint16])
    def test_depth_of_several_frames(self, tmp_path, dtype):
        frames = [Image.fromarray(np.full((4, 4), value, dtype)) for value in (1, 2)]
        frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match=r"depth file .*a\.tif has 2 frames; expected one"):
            read_depth_m(tmp_path / "a.tif", DepthEncoding())

    @pytest.mark.parametrize(("width", "height"), [(1, 1), (20000, 50)])
    def test_odd_sizes(self, tmp_path, width, height):
        Image.new("RGB", (width, height), (1, 2, 3)).save(tmp_path / "a.png")
        image = read_image(tmp_path / "a.png")
        assert image.shape == (height, width, 3)
        assert image[-1, -1].tolist() == [1, 2, 3]

    def test_real_image_equals_opencv(self, shared_data):
        cv2 = pytest.importorskip("cv2")
        path = shared_data / "camvid/train/0001TP_006690.jpg"
        expected = cv2.imread(str(path))[:, :, ::-1]
        assert np.abs(read_image(path).astype(int) - expected).max() <= 2


class TestBadFiles:
    def test_missing(self, tmp_path):
        assert_error(tmp_path / "a.png", "does not exist")

    def test_folder(self, tmp_path):
        assert_error(tmp_path, "folder.*no images")
        Image.new("L", (1, 1)).save(tmp_path / "a.png")
        assert_error(tmp_path, "folder: give its files")

    def test_empty(self, tmp_path):
        path = tmp_path / "a.png"
        path.touch()
        assert_error(path, "empty")

    def test_text(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_text("no image at all")
        assert_error(path, "not an image")

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "gif", "bmp"])
    def test_cut_off(self, tmp_path, suffix):
        """A JPEG cut in half must not come back with a gray lower half."""
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        assert_error(path, "broken|not an image")

    def test_decompression_bomb(self, tmp_path):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        path = tmp_path / "a.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        assert_error(path, "too large")

    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "a.png")
        assert_error(tmp_path / "a.png", "not a regular file")

    def test_impossible_name(self, tmp_path):
        assert_error(tmp_path / ("a" * 300), "cannot be read")


class TestAsImage:
    def test_array(self):
        array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
        assert np.array_equal(as_image(array), array)
        assert np.array_equal(as_image(array[:, ::-1]), array[:, ::-1])
        assert as_image(array[:, :, 0]).tolist() == np.stack([array[:, :, 0]] * 3, 2).tolist()

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((2, 2, 3), np.float32),
            np.zeros((2, 2, 4), np.uint8),
            np.zeros((0, 2, 3), np.uint8),
            np.zeros(3, np.uint8),
        ],
    )
    def test_other_arrays(self, array):
        with pytest.raises(InputError, match=rf"{array.dtype} array \({array.shape[0]},.*expected uint8"):
            as_image(array)

    def test_other_types(self):
        with pytest.raises(InputError, match="has type bytes"):
            as_image(b"abc")

    def test_path_and_pil(self, tmp_path):
        Image.new("LA", (3, 2), (9, 255)).save(tmp_path / "a.png")
        for value in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.open(tmp_path / "a.png")):
            assert as_image(value).tolist() == np.full((2, 3, 3), 9).tolist()

    def test_broken_lazy_pil(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "a.jpg")
        content = (tmp_path / "a.jpg").read_bytes()
        with pytest.raises(InputError, match="PIL image"):
            as_image(Image.open(io.BytesIO(content[: len(content) // 2])))


class TestList:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        names = ["b.png", "a.JPG", "note.txt", ".hidden.png", "deep/er/c.webp", ".cache/d.png", "odd[1].png"]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "none").mkdir()
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        ("inputs", "expected"),
        [
            (["."], ["a.JPG", "b.png", "deep/er/c.webp", "odd[1].png"]),
            (["b.png", "."], ["b.png", "a.JPG", "deep/er/c.webp", "odd[1].png"]),
            (["b.png", "./deep/../b.png"], ["b.png"]),
            (["note.txt"], ["note.txt"]),
            (["*.png"], ["b.png", "odd[1].png"]),
            (["odd[1].png"], ["odd[1].png"]),
            (["**/*.webp", "*.JPG"], ["deep/er/c.webp", "a.JPG"]),
            (["*"], ["a.JPG", "b.png", "deep/er/c.webp", "odd[1].png"]),
            (["gone.png", "none", "*.bmp", "b.png"], ["gone.png", "none", "*.bmp", "b.png"]),
        ],
    )
    def test_found(self, folder, inputs, expected):
        assert [path.as_posix() for path in list_images(inputs)] == expected

    def test_absolute_pattern(self, folder):
        assert list_images([f"{folder}/*.JPG"]) == [folder / "a.JPG"]

    def test_what_leads_to_nothing_says_why(self, folder):
        gone, none, pattern = list_images(["gone.png", "none", "*.bmp"])
        assert_error(gone, "does not exist")
        assert_error(none, "no images")
        with pytest.raises(InputError, match=r"no image matches \*\.bmp"):
            read_image(pattern)

    def test_empty_string(self, folder):
        with pytest.raises(InputError, match="empty string"):
            list_images(["b.png", ""])


class TestSearch:
    """What `list_images` finds in folders."""

    def named(self, folder, *names):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()

    def found(self, folder, inputs, out=None):
        paths = list_images([str(folder / each) for each in inputs], out=None if out is None else folder / out)
        return [path.relative_to(folder).as_posix() for path in paths]

    def test_linked_folders(self, tmp_path):
        """3 of 6 images were predicted, without a word: folders that are links were left out."""
        self.named(tmp_path, "store/a.jpg", "photos/b.jpg")
        (tmp_path / "photos/link").symlink_to(tmp_path / "store")
        (tmp_path / "photos/circle").symlink_to(tmp_path / "photos")
        (tmp_path / "photos/itself").symlink_to(tmp_path / "photos/itself")
        (tmp_path / "photos/gone.png").symlink_to(tmp_path / "nowhere.png")
        assert self.found(tmp_path, ["photos"]) == ["photos/b.jpg", "photos/gone.png", "photos/link/a.jpg"]

    def test_folders_that_link_to_each_other(self, tmp_path):
        """Every way from folder to folder is a path: 10 folders that link to each other have millions."""
        for name in "abcdefghij":
            self.named(tmp_path, f"{name}/x.jpg")
        for name in "abcdefghij":
            for other in set("abcdefghij") - {name}:
                (tmp_path / name / other).symlink_to(tmp_path / other)
        with pytest.raises(InputError, match=r"links lead to folder .* more than 16 times"):
            list_images([str(tmp_path)])

    def test_what_is_passed_over_is_counted(self, tmp_path, caplog):
        """Videos, and HEIC images, of a folder were left out without a word."""
        self.named(tmp_path, "a.jpg", "b.JPE", "c.mp4", "d.MP4", "e", ".hidden")
        assert self.found(tmp_path, ["."]) == ["a.jpg", "b.JPE"]
        assert "3 files in" in caplog.text
        assert ".mp4 (2), none (1)" in caplog.text.replace("none (1), .mp4 (2)", ".mp4 (2), none (1)")

    @pytest.mark.parametrize("inputs", [["."], ["**/*.png"], ["*"]])
    def test_results_inside_the_folder_are_no_input(self, tmp_path, inputs):
        """`predict . --out predicted` predicted 1 image, then 3, then 9."""
        self.named(tmp_path, "a.png", "predicted/a_depth.png", "predicted/deep/other.png")
        assert self.found(tmp_path, inputs, out="predicted") == ["a.png"]

    @pytest.mark.parametrize("out", [".", "elsewhere"])
    def test_results_among_the_images_are_no_input(self, tmp_path, caplog, out):
        """Results of an earlier run were predicted by the next one, if it wrote to another folder."""
        self.named(tmp_path, "a.png", "a_depth.png", "a_depth_color.png", "b_depth.png", "deep/a_depth.png")
        assert self.found(tmp_path, ["."], out=out) == ["a.png", "b_depth.png"]
        assert "3 images in" in caplog.text

    def test_what_is_named_is_taken(self, tmp_path):
        self.named(tmp_path, "predicted/a_depth.png")
        assert self.found(tmp_path, ["predicted/a_depth.png"], out="predicted") == ["predicted/a_depth.png"]


class TestOtherFormats:
    @pytest.mark.parametrize(
        ("start", "words"),
        [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
            (b"\0\0\0\x18ftypisom\0\0\0\0", "an MP4 or QuickTime video"),
            (b"\xff\x0a" + b"\0" * 20, "a JPEG XL image"),
            (b"%PDF-1.7", "a PDF document"),
        ],
    )
    def test_the_format_is_named(self, tmp_path, start, words):
        """A HEIC image of a phone was "not an image, whatever its name says"."""
        (tmp_path / "a.jpg").write_bytes(start)
        with pytest.raises(InputError, match=words):
            read_image(tmp_path / "a.jpg")

    def test_heic_without_its_reader(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        with pytest.raises(InputError, match=r"a HEIC image: pip install 'metaprompts\[heic\]'"):
            read_image(tmp_path / "a.heic")

    def test_heic(self, tmp_path):
        heif = pytest.importorskip("pillow_heif")
        heif.register_heif_opener()
        Image.new("RGB", (64, 48), (200, 30, 60)).save(tmp_path / "a.HEIC", quality=100)
        image = read_image(tmp_path / "a.HEIC")
        assert image.shape == (48, 64, 3)
        assert np.abs(image.astype(int) - (200, 30, 60)).max() < 8
