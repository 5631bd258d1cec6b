import numpy as np
import pytest
from PIL import Image

from metaprompts.data.io.labels import read_color_mask, read_index_mask
from metaprompts.errors import InputError


class TestIndexMask:
    def test_palette_keeps_indices(self, tmp_path):
        image = Image.fromarray(np.array([[0, 1, 7]], np.uint8)).convert("P")
        image.putdata([0, 1, 7])
        image.putpalette([9, 9, 9] * 8)
        image.save(tmp_path / "a.png")
        mask = read_index_mask(tmp_path / "a.png")
        assert mask.tolist() == [[0, 1, 7]]
        assert mask.dtype == np.uint8

    @pytest.mark.parametrize(("dtype", "read"), [(np.uint8, np.uint8), (np.uint16, np.int32), (bool, np.uint8)])
    def test_gray(self, tmp_path, dtype, read):
        stored = np.array([[0, 1], [1, 0]]) * {np.uint8: 255, np.uint16: 65535, bool: 1}[dtype]
        Image.fromarray(stored.astype(dtype)).save(tmp_path / "a.png")
        mask = read_index_mask(tmp_path / "a.png")
        assert mask.tolist() == stored.tolist()
        assert mask.dtype == read

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
    def test_colors(self, tmp_path, mode):
        Image.new(mode, (4, 3)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"a.png is {mode} 3x4.*store class indices"):
            read_index_mask(tmp_path / "a.png")

    def test_jpeg_whatever_its_name(self, tmp_path):
        Image.new("L", (4, 3)).save(tmp_path / "a.png", format="jpeg")
        with pytest.raises(InputError, match=r"a\.png is a JPEG"):
            read_index_mask(tmp_path / "a.png")

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"format": "tiff", "compression": "jpeg"}, "a JPEG-compressed TIFF"),
            ({"format": "webp"}, "a lossy WebP"),
            ({"format": "webp", "exif": b"Exif"}, "a lossy WebP"),
            ({"format": "jpeg2000"}, "a JPEG 2000"),
            ({"format": "avif"}, "an AVIF"),
        ],
    )
    @pytest.mark.parametrize("read", [read_index_mask, read_color_mask])
    def test_lossy_masks_in_other_containers(self, tmp_path, options, named, read):
        """JPEG-compressed TIFF, lossy WebP, JPEG 2000 and AVIF were trained on: classes 0 and 2 had a seam of 1."""
        Image.init()
        if options["format"].upper() not in Image.SAVE:
            pytest.skip("this Pillow does not write the format")
        Image.new("RGB", (16, 16)).save(tmp_path / "a.png", **options)
        with pytest.raises(InputError, match=rf"a\.png is {named}, which alters class indices and colors"):
            read(tmp_path / "a.png")

    @pytest.mark.parametrize(
        "options",
        [
            {"format": "webp", "lossless": True},
            {"format": "webp", "lossless": True, "exif": b"Exif"},
            {"format": "tiff", "compression": "tiff_lzw"},
            {"format": "tiff", "compression": "tiff_adobe_deflate"},
            {"format": "tiff"},
        ],
    )
    def test_lossless_masks_in_other_containers(self, tmp_path, options):
        Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "a.png", **options)
        assert (read_color_mask(tmp_path / "a.png") == 0x010203).all()

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match=r"label file .*a\.png does not exist"):
            read_index_mask(tmp_path / "a.png")

    def test_real_masks(self, shared_data):
        formats = shared_data / "formats"
        name = "cityscapes/gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_"
        train_ids = read_index_mask(formats / f"{name}labelTrainIds.png")
        assert train_ids.shape == (128, 256)
        assert set(np.unique(train_ids)) <= {*range(19), 255}
        instances = read_index_mask(formats / f"{name}instanceIds.png")
        assert instances.dtype == np.int32
        assert instances.max() > 1000
        vistas = read_index_mask(formats / "mapillary_vistas/validation/v1.2/labels/__CRyFzoDOXn6unQ6a3DnQ.png")
        assert np.unique(vistas).tolist() == [17, 44, 45]
