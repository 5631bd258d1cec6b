import json

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, name2label
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from labeled_folders import segmentation_folder
from metaprompts.data.class_names import ADE20K, CITYSCAPES
from metaprompts.synthetic import CLASSES
from metaprompts.synthetic.layouts.mapillary import label_ids

IN_ADE20K = {"pavement": "sidewalk", "sign": "signboard"}
IN_CITYSCAPES = {"pavement": "sidewalk", "sign": "traffic sign", "tree": "vegetation"}
# Vistas 1.2 -> the 19 classes of Cityscapes in their order, as mmsegmentation and the authors' code have it.
VISTAS = [[13, 24, 41], [2, 15], [17], [6], [3], [45, 47], [48], [50], [30], [29], [27], [19], [20, 21, 22]]
VISTAS += [[55], [61], [54], [58], [57], [52]]


def named(labels, names, renamed):
    """What a scene's labels should be in a list of class names."""
    return np.array([names.index(renamed.get(name, name)) for name in CLASSES])[labels]


def samples(folder, split, **settings):
    return segmentation_folder(folder, f"{split}.txt", **settings)


class TestAde20k:
    @pytest.mark.parametrize(("split", "long"), [("train", "training"), ("val", "validation")])
    def test_reader_gives_the_scenes_labels_back(self, written, split, long):
        ade = written("ade20k")
        root = ade.folder / "ADEChallengeData2016"
        dataset = segmentation_folder(
            root, f"images/{long}", f"annotations/{long}", classes=150, reduce_zero_label=True
        )
        assert len(dataset) == {"train": 5, "val": 1}[split]
        for number, sample in enumerate(dataset):
            scene = ade.scene(split, number)
            assert np.array_equal(sample.labels, named(scene.labels, ADE20K, IN_ADE20K))
            assert np.abs(sample.image.astype(int) - scene.image).mean() < 5

    def test_both_kinds_and_their_categories(self, written):
        ade = written("ade20k")
        lines = (ade.folder / "ADEChallengeData2016/sceneCategories.txt").read_text().splitlines()
        kinds = [ade.scene("train", number).kind for number in range(5)] + [ade.scene("val", 0).kind]
        assert set(kinds) == {"room", "street"}
        stems = [f"ADE_train_{number:08d}" for number in range(1, 6)] + ["ADE_val_00000001"]
        names = {"room": "living_room", "street": "street"}
        assert lines == [f"{stem} {names[kind]}" for stem, kind in zip(stems, kinds, strict=True)]

    def test_object_info_counts(self, written):
        ade = written("ade20k")
        text = (ade.folder / "ADEChallengeData2016/objectInfo150.txt").read_text()
        rows = [line.split("\t") for line in text.splitlines()]
        assert rows[0] == ["Idx", "Ratio", "Train", "Val", "Name"]
        assert [row[4] for row in rows[1:]] == list(ADE20K)
        train, val = [ade.scene("train", number).labels for number in range(5)], ade.scene("val", 0).labels
        wall = CLASSES.index("wall")
        share = (np.stack([*train, val]) == wall).mean()
        assert rows[1][:4] == [
            "1",
            f"{share:.4f}",
            str(sum((wall == t).any() for t in train)),
            str(int((wall == val).any())),
        ]

    def test_like_the_genuine_sample(self, written, shapes_of, shared_data):
        assert shapes_of(shared_data / "formats/ade20k") == shapes_of(written("ade20k").folder)


class TestCityscapes:
    @pytest.mark.parametrize(("split", "count"), [("train", 4), ("val", 1)])
    def test_reader_gives_the_scenes_labels_back(self, written, split, count):
        cityscapes = written("cityscapes")
        dataset = samples(cityscapes.folder, split, classes=19)
        assert len(dataset) == count
        for number, sample in enumerate(dataset):
            scene = cityscapes.scene(split, number)
            assert np.array_equal(sample.image, scene.image)
            seen = [CLASSES[label] for label in np.unique(scene.labels)]
            assert {IN_CITYSCAPES.get(name, name) for name in seen} == {CITYSCAPES[i] for i in np.unique(sample.labels)}
            for name in seen:
                place = CITYSCAPES.index(IN_CITYSCAPES.get(name, name))
                assert np.array_equal(sample.labels == place, scene.labels == CLASSES.index(name))

    def test_ids_and_colors_are_those_of_the_official_table(self, written):
        for path in written("cityscapes").folder.rglob("*_labelTrainIds.png"):
            ids, colors = (np.array(Image.open(other(path, kind))) for kind in ("labelIds", "color"))
            for number in np.unique(ids):
                label = id2label[int(number)]
                assert (np.array(Image.open(path))[ids == number] == label.trainId).all()
                assert (colors[ids == number] == (*label.color, 255)).all()

    def test_official_script_draws_the_polygons_as_the_masks(self, written, tmp_path):
        paths = list(written("cityscapes").folder.rglob("*_polygons.json"))
        assert len(paths) == 6
        for path in paths:
            for encoding, kind in (("ids", "labelIds"), ("color", "color")):
                json2labelImg(str(path), str(tmp_path / "drawn.png"), encoding)
                drawn = np.array(Image.open(tmp_path / "drawn.png"))
                assert np.array_equal(drawn, np.array(Image.open(other(path, kind))))

    def test_instances(self, written):
        """Everyone and every car has a number; the classes without numbers have their plain id."""
        cityscapes, most = written("cityscapes"), 0
        for number in range(4):
            scene = cityscapes.scene("train", number)
            path = cityscapes.folder / f"gtFine/train/aachen/aachen_{number:06d}_000019_gtFine_instanceIds.png"
            stored = np.array(Image.open(path))
            for name in ("person", "car"):
                mask = scene.labels == CLASSES.index(name)
                pairs = set(zip(scene.things[mask].tolist(), stored[mask].tolist(), strict=True))
                first = 1000 * name2label[name].id
                assert sorted(value for _, value in pairs) == list(range(first, first + len(pairs)))
                assert len({thing for thing, _ in pairs}) == len(pairs)
                most = max(most, len(pairs))
            ids = np.array(Image.open(other(path, "labelIds")))
            assert np.array_equal(np.where(stored > 255, stored // 1000, stored), ids)
        assert most > 1

    def test_test_split_has_no_labels(self, written):
        folder = written("cityscapes").folder
        (image,) = folder.glob("leftImg8bit/test/*/*.png")
        assert np.array(Image.open(image)).std() > 10
        (labels,) = folder.glob("gtFine/test/*/*_labelIds.png")
        assert not np.array(Image.open(labels)).any()
        assert json.loads(other(labels, "polygons").with_suffix(".json").read_text())["objects"] == []
        assert "test" not in (folder / "train.txt").read_text() + (folder / "val.txt").read_text()

    def test_like_the_genuine_sample(self, written, shapes_of, shared_data):
        ours, genuine = shapes_of(written("cityscapes").folder), shapes_of(shared_data / "formats/cityscapes")
        assert genuine.items() <= ours.items()


def other(path, kind):
    """The file of another kind next to one of gtFine."""
    return path.with_name(path.stem.rpartition("_")[0] + f"_{kind}.png")


class TestMapillary:
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_reader_gives_labels_that_become_those_of_cityscapes(self, written, split):
        """The same streets in both layouts, brought together by the published table."""
        table = np.full(66, 255)
        for place, ids in enumerate(VISTAS):
            table[ids] = place
        cityscapes = samples(written("cityscapes").folder, split, classes=19)
        vistas = samples(written("mapillary").folder, split, classes=65, ignored=(65,))
        for one, same in zip(vistas, cityscapes, strict=False):
            assert np.array_equal(table[one.labels], same.labels)
            assert (table[one.labels] < 255).all()

    def test_names_and_ids(self, written):
        configs = [json.loads((written("mapillary").folder / f"config_{v}.json").read_text()) for v in ("v1.2", "v2.0")]
        assert [len(config["labels"]) for config in configs] == [66, 124]
        for config, version in zip(configs, ("v1.2", "v2.0"), strict=True):
            names = [config["labels"][number]["readable"] for number in label_ids(version)]
            assert dict(zip(CLASSES, names, strict=True)) == dict.fromkeys(CLASSES, "Unlabeled") | {
                "road": "Road",
                "pavement": "Sidewalk",
                "building": "Building",
                "pole": "Pole",
                "sign": "Traffic Sign (Front)",
                "tree": "Vegetation",
                "sky": "Sky",
                "person": "Person",
                "car": "Car",
            }

    def test_instances_hold_the_label(self, written):
        mapillary, most = written("mapillary"), 0
        for path in mapillary.folder.rglob("instances/*.png"):
            stored = np.array(Image.open(path))
            assert stored.dtype == np.uint16
            assert np.array_equal(stored // 256, np.array(Image.open(path.parents[1] / "labels" / path.name)))
            scene = mapillary.scene("train" if "training" in str(path) else "val", int(path.stem[5:]) % 1_000_000)
            counted = np.isin(scene.labels, [CLASSES.index(name) for name in ("person", "car", "pole", "sign")])
            pairs = set(zip(scene.things[counted].tolist(), stored[counted].tolist(), strict=True))
            assert len({thing for thing, _ in pairs}) == len(pairs) == len({value for _, value in pairs})
            assert not (stored % 256)[~counted].any()
            most = max(most, len(pairs))
        assert most > 2

    def test_like_the_genuine_sample(self, written, shapes_of, shared_data):
        genuine = shared_data / "formats/mapillary_vistas"
        ours = shapes_of(written("mapillary").folder, r"[^/]{22}\.", "key.")
        assert shapes_of(genuine, r"[^/]{22}\.", "key.").items() <= ours.items()
        for version in ("v1.2", "v2.0"):
            palettes = [
                Image.open(next(root.glob(f"validation/{version}/labels/*.png"))).getpalette()
                for root in (genuine, written("mapillary").folder)
            ]
            assert palettes[0] == palettes[1]
