import re

import numpy as np
import pytest
from PIL import Image

from labeled_folders import depth_folder
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.errors import InputError
from metaprompts.synthetic.layouts.base import Place
from metaprompts.synthetic.layouts.kitti import Kitti


def form(line):
    """A line of a list without its numbers and room names."""
    return re.sub(r"\d+", "0", re.sub(r"(basement|living_room)(_\d+)?", "room", line))


class TestNyu:
    @pytest.mark.parametrize(
        ("split", "folder", "names"),
        [("train", "sync", "train_list.txt"), ("val", "official_splits/test", "test_list.txt")],
    )
    def test_reader_gives_the_scenes_depth_back(self, written, split, folder, names):
        nyu = written("nyu")
        dataset = depth_folder(nyu.folder / folder, f"../{'../' * folder.count('/')}{names}")
        assert len(dataset) == {"train": 5, "val": 1}[split]
        for number, sample in enumerate(dataset):
            scene = nyu.scene(split, number)
            assert scene.kind == "room"
            np.testing.assert_allclose(sample.depth_m, scene.depth_m, atol=0.000501)
            assert np.abs(sample.image.astype(int) - scene.image).mean() < 5

    def test_lists_with_focal_length(self, written):
        nyu = written("nyu")
        for split, folder in (("train", "sync"), ("test", "official_splits/test")):
            lines = (nyu.folder / f"nyudepthv2_{split}_files_with_gt.txt").read_text().splitlines()
            for number, line in enumerate(lines):
                image, depth, focal_px = line.split()
                assert (nyu.folder / folder / image.lstrip("/")).is_file()
                assert (nyu.folder / folder / depth.lstrip("/")).is_file()
                scene = nyu.scene({"train": "train", "test": "val"}[split], number)
                assert float(focal_px) == pytest.approx(scene.intrinsics[0, 0], abs=1e-4)
        assert (
            nyu.folder.joinpath("nyudepthv2_test_files_with_gt.txt")
            .read_text()
            .startswith("living_room/rgb_00045.jpg ")
        )

    def test_like_the_genuine_sample(self, written, shapes_of, shared_data):
        nyu, genuine = written("nyu").folder, shared_data / "formats/nyu_depth_v2"
        rooms = r"(basement|living_room)(_\d+)?/|\d"
        ours, theirs = shapes_of(nyu, rooms, "0"), shapes_of(genuine, rooms, "0")
        assert theirs == ours
        for name in ("train_list.txt", "test_list.txt"):
            forms = [{form(line) for line in (root / name).read_text().splitlines()} for root in (nyu, genuine)]
            assert forms[0] == forms[1]


class TestKitti:
    @pytest.mark.parametrize(("split", "names"), [("train", "train_list.txt"), ("val", "test_list.txt")])
    def test_reader_gives_the_scenes_depth_back_where_measured(self, written, split, names):
        kitti = written("kitti")
        dataset = depth_folder(kitti.folder, names, encoding=DepthEncoding(depth_scale=256))
        assert len(dataset) == {"train": 5, "val": 1}[split]
        for number, sample in enumerate(dataset):
            scene = kitti.scene(split, number)
            assert scene.kind == "street"
            assert np.array_equal(sample.image, scene.image)
            measured = sample.depth_m > 0
            np.testing.assert_allclose(sample.depth_m[measured], scene.depth_m[measured], atol=1.01 / 512)
            assert scene.depth_m[measured].max() <= 80
            assert not measured[:33].any()
            possible = (scene.depth_m > 0) & (scene.depth_m <= 80)
            assert measured[33:].sum() == pytest.approx(0.3 * possible[33:].sum(), rel=0.08)

    def test_some_depth_is_too_far(self, written):
        """Otherwise the test above would not notice a missing limit."""
        assert written("kitti").scene("train", 0).depth_m.max() > 80

    def test_density(self, written, tmp_path):
        scene = written("kitti").scene("train", 0)
        place = Place(split="train", number=0, index=0, seed=scene.seed)
        counts = []
        for density in (0.05, 1.0):
            layout = Kitti(density=density)
            layout.write(scene, place, tmp_path)
            counts.append(int((np.array(Image.open(tmp_path / layout.target(place))) > 0).sum()))
        assert counts[1] == ((scene.depth_m > 0) & (scene.depth_m <= 80))[33:].sum()
        assert counts[0] == pytest.approx(0.05 * counts[1], rel=0.2)
        with pytest.raises(InputError, match=r"density is 1\.5"):
            Kitti(density=1.5)

    def test_selection_is_the_lower_middle_part(self, written):
        kitti = written("kitti")
        selection = kitti.folder / "depth_selection/val_selection_cropped"
        drive, frame = "2011_09_26_drive_0002_sync", "0000000005_image_02"
        image = np.array(Image.open(selection / f"image/{drive}_image_{frame}.png"))
        depth = np.array(Image.open(selection / f"groundtruth_depth/{drive}_groundtruth_depth_{frame}.png"))
        scene = kitti.scene("val", 0)
        assert np.array_equal(image, scene.image[4:, 1:129])
        whole = np.array(Image.open(next(kitti.folder.rglob("val/*/proj_depth/**/0000000005.png"))))
        assert np.array_equal(depth, whole[4:, 1:129])
        matrix = np.loadtxt(selection / f"intrinsics/{drive}_image_{frame}.txt").reshape(3, 3)
        expected = scene.intrinsics - [[0, 0, 1], [0, 0, 4], [0, 0, 0]]
        np.testing.assert_allclose(matrix, expected, atol=1e-6)

    def test_every_tenth_test_image_has_no_depth(self):
        layout = Kitti()
        places = [Place(split="val", number=number, index=number, seed=number) for number in range(20)]
        texts = layout.list_texts([(place, {"focal_px": 721.5377}) for place in places])
        lines = [line.split() for line in texts["eigen_test_files_with_gt.txt"].splitlines()]
        assert [number for number, line in enumerate(lines) if line[1] == "None"] == [9, 19]
        assert lines[0] == [
            "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000005.png",
            "val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000005.png",
            "721.5377",
        ]
        assert len(texts["test_list.txt"].splitlines()) == 18
        assert [len(layout.files(place)) for place in places[8:10]] == [5, 1]

    def test_three_columns_lead_to_files(self, written):
        kitti = written("kitti").folder
        for line in (kitti / "eigen_train_files_with_gt.txt").read_text().splitlines():
            image, depth, _ = line.split()
            assert (kitti / "raw_data" / image).is_file()
            assert (kitti / "data_depth_annotated" / depth).is_file()

    def test_like_the_genuine_sample(self, written, shapes_of, shared_data):
        kitti, genuine = written("kitti").folder, shared_data / "formats/kitti"
        ours = {path: mode for path, mode in shapes_of(kitti).items() if not path.startswith("depth_selection")}
        assert shapes_of(genuine) == ours
        for name in ("train_list.txt", "test_list.txt"):
            forms = [{form(line) for line in (root / name).read_text().splitlines()} for root in (kitti, genuine)]
            assert forms[0] == forms[1]
