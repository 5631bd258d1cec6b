"""The data sections of recipes: which reader a layout chooses, and which keys go with it."""

import shutil

import numpy as np
import pytest
from PIL import Image

from layout_classes import ADE20K, CITYSCAPES, vistas
from metaprompts.data.config.depth import DepthAugment, DepthData
from metaprompts.data.config.pose import PoseData
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.data.layouts.ade20k import Ade20k
from metaprompts.data.layouts.kitti import KittiEigen, KittiSelection
from metaprompts.data.layouts.nyu import NyuDepth
from metaprompts.errors import InputError
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.utils.schema import from_dict, to_dict
from open_split import open_split


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a folder of each layout."""
    folder = tmp_path_factory.mktemp("layouts")
    for name in ("ade20k", "cityscapes", "mapillary", "nyu", "kitti"):
        write_scenes(name, 4, folder / name, height=64, width=96)
    write_scenes("coco", 12, folder / "coco", height=64, width=96, val_count=6)
    return folder


class TestSegmentation:
    @pytest.mark.parametrize(
        ("settings", "classes"),
        [
            ({"layout": "ade20k"}, ADE20K),
            ({"layout": "cityscapes"}, CITYSCAPES),
            ({"layout": "mapillary"}, vistas("v1.2")),
            ({"layout": "mapillary", "labels": "v1.2"}, vistas("v1.2", evaluated=True)),
            ({"layout": "mapillary", "labels": "v2.0"}, vistas("v2.0", evaluated=True)),
            ({"layout": "mapillary", "as_cityscapes": True}, CITYSCAPES),
        ],
    )
    def test_the_root_is_all_that_must_be_said(self, root, settings, classes):
        data = SegmentationData(root=root / settings["layout"], **settings)
        assert len(open_split(data, "train", classes)) == {"cityscapes": 2}.get(data.layout, 3)
        assert open_split(data, "val", classes)[0].labels.shape == (64, 96)
        assert from_dict(SegmentationData, to_dict(data)) == data

    def test_classes_in_another_order_are_numbered_by_name(self, root, caplog):
        """A model of the same classes in alphabetical order was scored against others: only numbers were compared."""
        for settings, names in (
            ({"layout": "cityscapes"}, CITYSCAPES),
            ({"layout": "mapillary"}, vistas("v1.2")),
            ({"layout": "ade20k"}, ADE20K),
        ):
            data = SegmentationData(root=root / settings["layout"], **settings)
            expected, found = (open_split(data, "val", order)[0].labels for order in (names, names[::-1]))
            counted = expected != 255
            assert np.array_equal(counted, found != 255)
            assert np.array_equal(found[counted], len(names) - 1 - expected[counted])
            assert f"{settings['layout']}: labels are numbered by name" in caplog.text

    def test_names_are_compared_as_people_spell_them(self, root):
        names = [name.upper().replace(" ", "_") for name in CITYSCAPES]
        data = SegmentationData(root=root / "cityscapes", layout="cityscapes")
        assert np.array_equal(open_split(data, "val", names)[0].labels, open_split(data, "val", CITYSCAPES)[0].labels)

    def test_foreign_classes_are_refused(self, root):
        names = ("auto", *CITYSCAPES[1:])
        with pytest.raises(
            InputError, match=r"'auto', which is not a class of data.layout cityscapes, and lacks 'road'"
        ):
            open_split(SegmentationData(root=root / "cityscapes", layout="cityscapes"), "val", names)
        with pytest.raises(InputError, match="a class twice, and lacks 'road'"):
            open_split(SegmentationData(root=root / "cityscapes", layout="cityscapes"), "val", ("sky", *CITYSCAPES[1:]))

    def test_lists_are_the_default(self, root):
        data = SegmentationData(root=root / "ade20k", reduce_zero_label=True)
        official = Ade20k(root / "ade20k", "train")
        found = open_split(data, "train", ADE20K)
        assert [sample.path for sample in found] == [sample.path for sample in official]
        assert data.official() == {}

    def test_zero_may_be_said_to_be_ignored_where_it_is_anyway(self):
        assert SegmentationData(layout="ade20k", reduce_zero_label=True).official()["train"] == 20210

    def test_extra_is_trained_on_and_not_validated(self, root, tmp_path):
        folder = shutil.copytree(root / "cityscapes", tmp_path / "cityscapes")
        (folder / "leftImg8bit/train_extra/aachen").mkdir(parents=True)
        (folder / "auto/aachen").mkdir(parents=True)
        name = "aachen_000000_000020_leftImg8bit.png"
        Image.new("RGB", (96, 64)).save(folder / "leftImg8bit/train_extra/aachen" / name)
        Image.new("L", (96, 64), 26).save(folder / "auto/aachen" / name)
        data = SegmentationData(root=folder, layout="cityscapes", extra="auto")
        assert list(data.parts("train", CITYSCAPES)) == ["train", "train_extra"]
        assert list(data.parts("val", CITYSCAPES)) == ["val"]
        samples = open_split(data, "train", CITYSCAPES)
        assert len(samples) == 3
        assert np.unique(samples[2].labels).tolist() == [13]

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"extra": "gtCoarse"}, "data.extra is gtCoarse, but data.layout is 'lists'.* choose layout cityscapes"),
            ({"layout": "ade20k", "train": "a.txt"}, "data.train is a.txt, .*choose layout lists"),
            ({"layout": "cityscapes", "ignored": (11,)}, "data.ignored is"),
            ({"layout": "cityscapes", "reduce_zero_label": True}, "choose layout lists or ade20k"),
            ({"layout": "cityscapes", "as_cityscapes": True}, "data.as_cityscapes is True.*choose layout mapillary"),
            ({"layout": "ade20k", "labels": "v1.2"}, "choose layout cityscapes or mapillary"),
            ({"layout": "mapillary", "labels": "v3"}, "data.labels is 'v3'; expected v1.2 or v2.0 for mapillary"),
            ({"layout": "mapillary", "labels": "v2.0", "as_cityscapes": True}, "omit one of them"),
        ],
    )
    def test_keys_that_do_not_go_together(self, settings, words):
        with pytest.raises(InputError, match=words):
            SegmentationData(**settings)

    def test_unknown_layout(self):
        with pytest.raises(InputError, match=r"data.layout is 'voc'; expected one of lists, ade20k"):
            from_dict(SegmentationData, {"layout": "voc"}, "data")


class TestDepth:
    @pytest.mark.parametrize(("layout", "kind", "units"), [("nyu", NyuDepth, 1000), ("kitti", KittiEigen, 256)])
    def test_the_root_is_all_that_must_be_said(self, root, layout, kind, units):
        data = DepthData(root=root / layout, layout=layout)
        for split, count in (("train", 3), ("val", 1)):
            samples = open_split(data, split)
            assert isinstance(samples, kind)
            assert len(samples) == count
        assert samples.encoding.depth_scale == data.stored_depth_scale == units
        assert from_dict(DepthData, to_dict(data)) == data

    def test_selection(self, root):
        data = DepthData(root=root / "kitti", layout="kitti", val_selection=True)
        assert isinstance(open_split(data, "val"), KittiSelection)
        assert isinstance(open_split(data, "train"), KittiEigen)

    def test_named_lists(self, root):
        data = DepthData(root=root / "nyu", layout="nyu", train_list="test_list.txt", val_list="none.txt")
        with pytest.raises(InputError, match=r"no none\.txt in "):
            open_split(data, "val")
        with pytest.raises(InputError, match=r"test_list\.txt, line 1: no file"):
            open_split(data, "train")

    def test_cutdepth_gets_the_units_of_the_layout(self):
        """CutDepth as released wraps stored integers: with 1000 in place of 256 it would draw other strips."""
        augment = DepthAugment(crop_size=(8, 8), cutdepth="released")
        for data, units in ((DepthData(layout="kitti"), 256), (DepthData(), 1000), (DepthData(depth_scale=5), 5)):
            assert augment.transforms(data, 80.0)[0].transform.depth_scale == units

    def test_mat_files_are_searched(self, root):
        with pytest.raises(InputError, match=r"no nyu_depth_v2_labeled\.mat"):
            open_split(DepthData(root=root / "nyu", layout="nyu_mat"), "train")

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"layout": "kitti", "depth_scale": 1000.0}, "data.depth_scale is 1000.0"),
            ({"layout": "nyu", "val": "test_list.txt"}, "data.val is test_list.txt, .*choose layout lists"),
            ({"layout": "nyu_mat", "val_list": "a.txt"}, "choose layout nyu or kitti"),
            ({"layout": "nyu", "val_selection": True}, "choose layout kitti"),
            ({"layout": "kitti", "val_selection": True, "val_list": "a.txt"}, "omit one of them"),
            ({"depth_scale": 0.0}, "data.depth_scale is 0.0; expected 1e-06 to 1000000000"),
        ],
    )
    def test_keys_that_do_not_go_together(self, settings, words):
        with pytest.raises(InputError, match=words):
            DepthData(**settings)


class TestPose:
    def test_the_root_is_all_that_must_be_said(self, root):
        data = PoseData(root=root / "coco")
        assert open_split(data, "train")[0].person is not None
        assert len(open_split(data, "val")) > 0
        assert data.official() == {"train": 149813, "val": 6352}

    def test_genuine_sample(self, shared_data):
        boxes = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
        root = shared_data / "formats/coco"
        assert len(open_split(PoseData(root=root), "val")) == 12
        data = PoseData(root=root, val_boxes=boxes)
        assert list(data.parts("val")) == ["val_boxes"]
        assert len(open_split(data, "val")) == 118
        assert data.official()["val_boxes"] == 104125

    def test_other_files_have_no_official_number(self):
        assert PoseData(train="mine.json", val="yours.json").official() == {}
