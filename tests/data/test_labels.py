import numpy as np
import pytest
from PIL import Image

from metaprompts.data.labels import read_depth_m, read_index_mask
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


class TestDepth:
    def test_16_bit(self, tmp_path):
        Image.fromarray(np.array([[0, 1500], [65535, 256]], np.uint16)).save(tmp_path / "a.png")
        depth_m = read_depth_m(tmp_path / "a.png", units_per_meter=1000)
        assert depth_m.dtype == np.float32
        assert depth_m == pytest.approx(np.array([[0, 1.5], [65.535, 0.256]]))
        assert read_depth_m(tmp_path / "a.png", units_per_meter=256)[1, 1] == 1

    @pytest.mark.parametrize(("mode", "named"), [("L", "8-bit gray"), ("RGB", "RGB"), ("P", "palette")])
    def test_other_images(self, tmp_path, mode, named):
        Image.new(mode, (4, 3)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"a.png is {named} 3x4.*16-bit PNG"):
            read_depth_m(tmp_path / "a.png", units_per_meter=1000)

    def test_array(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[1.25, np.nan, np.inf, -np.inf, 0]]))
        depth_m = read_depth_m(tmp_path / "a.npy", units_per_meter=1000)
        assert depth_m.dtype == np.float32
        assert depth_m.tolist() == [[1.25, 0, 0, 0, 0]]

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.array([[1.0, -0.5]]), "negative"),
            (np.array([[1, 2]]), r"int64 \(1, 2\); expected float"),
            (np.zeros((2, 2, 1)), r"float64 \(2, 2, 1\)"),
            (np.array([[None]]), "no .npy array"),
        ],
    )
    def test_bad_arrays(self, tmp_path, array, words):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(InputError, match=f"a.npy .*{words}"):
            read_depth_m(tmp_path / "a.npy", units_per_meter=1000)

    @pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
    def test_broken_arrays(self, tmp_path, content):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npy is no .npy array"):
            read_depth_m(tmp_path / "a.npy", units_per_meter=1000)

    def test_missing_array(self, tmp_path):
        with pytest.raises(InputError, match=r"a\.npy cannot be read: No such file"):
            read_depth_m(tmp_path / "a.npy", units_per_meter=1000)

    @pytest.mark.parametrize("units", [0, -1, float("nan")])
    def test_units(self, tmp_path, units):
        with pytest.raises(InputError, match="units_per_meter"):
            read_depth_m(tmp_path / "a.png", units_per_meter=units)

    def test_real_depth(self, shared_data):
        """The ranges are those the data's own README states."""
        room = read_depth_m(shared_data / "depth/misc/depth/sun_bookshelf.png", units_per_meter=1000)
        assert room.shape == (244, 320)
        assert (round(float(room.min()), 2), round(float(room.max()), 2)) == (1.43, 2.51)
        drive = "formats/kitti/data_depth_annotated/train/2011_09_26_drive_0000_sync/proj_depth/groundtruth/image_02"
        lidar = read_depth_m(shared_data / drive / "0000000005.png", units_per_meter=256)
        assert lidar.shape == (375, 1242)
        assert 0.1 < (lidar > 0).mean() < 0.3
        assert 1 < lidar[lidar > 0].min() < lidar.max() < 90
