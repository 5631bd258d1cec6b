"""From shards come the samples that come from folders, to the last bit, and other readers understand them, too."""

import json
import pickle
import shutil
import tarfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from data.shards.sharding import BOXES, SPLITS, assert_same_samples, bits, dataset, origin, shard
from layout_classes import ADE20K, CITYSCAPES
from metaprompts.data.config.depth import DepthData
from metaprompts.data.config.pose import PoseData
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.data.shards.index import read_index
from metaprompts.data.shards.writer import begin, write_split
from metaprompts.errors import InputError
from open_split import open_split

# Section, its keys, classes of the task; named by the layout of the scenes.
SECTIONS = {
    "ade20k": (SegmentationData, {"layout": "ade20k"}, ADE20K),
    "cityscapes": (SegmentationData, {"layout": "cityscapes"}, CITYSCAPES),
    "mapillary": (SegmentationData, {"layout": "mapillary", "as_cityscapes": True}, CITYSCAPES),
    "nyu": (DepthData, {"layout": "nyu"}, None),
    "kitti": (DepthData, {"layout": "kitti"}, None),
    "kitti, selection": (DepthData, {"layout": "kitti", "val_selection": True}, None),
    "nyu, lists": (DepthData, {}, None),
    "coco": (PoseData, {}, None),
    "coco, boxes": (PoseData, {"val_boxes": BOXES}, None),
}


class TestSame:
    @pytest.mark.parametrize("shard_bytes", [1, 10**9])
    @pytest.mark.parametrize("name", SECTIONS)
    def test_as_from_folders(self, roots, tmp_path, name, shard_bytes):
        kind, keys, classes = SECTIONS[name]
        data = kind(root=roots / name.partition(",")[0], **keys)
        made = shard(data, tmp_path / "out", classes, shard_bytes=shard_bytes)
        for split in SPLITS:
            found, expected = dataset(made, split, classes), dataset(data, split, classes)
            assert_same_samples(found, expected)
            assert list(made.parts(split, *([] if classes is None else [classes]))) == [split]
            if kind is PoseData:
                assert (found.joint_names, found.skeleton) == (expected.joint_names, expected.skeleton)
                assert found.annotation_path.parent == tmp_path / "out"
                assert found.annotation_path.read_bytes() == expected.annotation_path.read_bytes()
            with pytest.raises(IndexError):
                found[len(found)]
        assert made.names_from("train") == data.names_from("train") == data.root

    def test_matlab_file(self, tmp_path):
        h5py = pytest.importorskip("h5py", reason="reading MATLAB files needs the extra mat")
        scipy_io = pytest.importorskip("scipy.io", reason="reading MATLAB files needs the extra mat")
        rng = np.random.default_rng(0)
        with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
            file["images"] = rng.integers(0, 256, (2, 3, 640, 480), dtype=np.uint8)
            file["rawDepths"] = rng.uniform(0.5, 9, (2, 640, 480)).astype(np.float32)
        scipy_io.savemat(tmp_path / "splits.mat", {"trainNdxs": np.array([[2]]), "testNdxs": np.array([[1]])})
        data = DepthData(root=tmp_path, layout="nyu_mat")
        made = shard(data, tmp_path / "out")
        for split in SPLITS:
            assert_same_samples(open_split(made, split), open_split(data, split))

    def test_a_relative_root_stays_relative(self, nyu, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        data = replace(nyu, root=nyu.root.relative_to(tmp_path))
        made = shard(data, tmp_path / "out")
        monkeypatch.undo()
        assert open_split(made, "train")[0].path == str(
            data.root / "sync" / open_split(made, "train")[0].path.split("sync/")[1]
        )

    def test_people_who_share_a_image(self, roots, tmp_path):
        """Each image is stored once, however the annotation file mixes its people with others."""
        root = shutil.copytree(roots / "coco", tmp_path / "coco")
        path = root / "annotations/person_keypoints_train2017.json"
        content = json.loads(path.read_text())
        content["annotations"].sort(key=lambda entry: entry["id"] % 3)
        path.write_text(json.dumps(content))
        data = PoseData(root=root)
        people = open_split(data, "train")
        images = [people.person(index).image_id for index in range(len(people))]
        assert images != sorted(images)
        found = open_split(shard(data, tmp_path / "out"), "train")
        assert_same_samples(found, people)
        assert sum(len(shard.records) for shard in found.shards) == len(set(images)) < len(people)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_any_process_in_any_order(self, nyu, tmp_path, workers):
        """Workers are forked from a process that reads the same shard: they must not move its place in the file."""
        made = shard(nyu, tmp_path / "out", shard_bytes=10**9, workers=workers)
        expected = [bits(sample) for sample in open_split(nyu, "train")]
        found = open_split(made, "train")
        assert bits(found[0]) == expected[0]
        loader = DataLoader(
            found, batch_size=None, sampler=[5, 0, 3, 1, 4, 2] * 5, num_workers=workers, collate_fn=bits
        )
        read = []
        for number, sample in enumerate(loader):
            read.append(sample)
            assert bits(found[number % 6]) == expected[number % 6]
        assert read == [expected[index] for index in [5, 0, 3, 1, 4, 2] * 5]

    def test_pickled(self, nyu, tmp_path):
        found = open_split(shard(nyu, tmp_path / "out"), "train")
        assert bits(found[2]) == bits(pickle.loads(pickle.dumps(found))[2])

    def test_more_shards_than_files_may_be_open(self, nyu, tmp_path, monkeypatch):
        monkeypatch.setattr("metaprompts.data.shards.dataset._OPEN_AT_MOST", 2)
        found = open_split(shard(nyu, tmp_path / "out"), "train")
        for _ in range(2):
            assert_same_samples(found, open_split(nyu, "train"))
        assert len(found._files._files) == 2


class TestBesideFolders:
    def test_a_split_that_is_not_there_is_read_from_the_root(self, nyu, tmp_path):
        begin(tmp_path / "out", origin(nyu))
        write_split(tmp_path / "out", "train", open_split(nyu, "train"))
        both = replace(nyu, shards=tmp_path / "out")
        assert_same_samples(open_split(both, "val"), open_split(nyu, "val"))
        shutil.rmtree(nyu.root / "sync")
        assert len(open_split(both, "train")) == 6
        with pytest.raises(
            InputError, match=r"data.root is not set, and .*out does not hold this split: pass --data.root"
        ):
            open_split(replace(both, root=None), "val")


def test_mapped_values_are_written_as_classes(tmp_path):
    """The map is part of what shards are: read with another one they are refused."""
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png a.png\n")
    label_map = {"255": "object"}
    data = SegmentationData(root=tmp_path, train="list.txt", val="list.txt", label_map=label_map)
    names = ("background", "object")
    made = shard(data, tmp_path / "out", names)
    assert open_split(made, "train", names)[0].labels.tolist() == [[0, 1]]
    with pytest.raises(InputError, match=r"made with data.label_map {'255': 'object'}, but the recipe has none"):
        open_split(replace(made, label_map=None), "train", names)


class TestFormat:
    def test_every_reader_of_webdataset_reads_it(self, roots, tmp_path):
        """Files of a sample follow each other and share what is before the first dot; read as a stream."""
        data = SegmentationData(root=roots / "ade20k", layout="ade20k")
        made = shard(data, tmp_path / "out", ADE20K, shard_bytes=10**9)
        samples = open_split(made, "train", ADE20K)
        groups = []
        with tarfile.open(tmp_path / "out/train-000000.tar", "r|") as tar:
            for info in tar:
                assert info.isfile()
                key, _, ending = info.name.partition(".")
                if not groups or groups[-1]["__key__"] != key:
                    groups.append({"__key__": key})
                groups[-1][ending] = tar.extractfile(info).read()
        assert len({group["__key__"] for group in groups}) == len(groups) == len(samples)
        for group, sample in zip(groups, samples, strict=True):
            assert set(group) == {"__key__", "jpg", "label.png", "json"}
            assert np.array_equal(np.array(Image.open(BytesIO(group["jpg"])).convert("RGB")), sample.image)
            assert np.array_equal(np.array(Image.open(BytesIO(group["label.png"]))), sample.labels)
            assert str(data.root / json.loads(group["json"])["path"]) == sample.path

    def test_index_tells_where_every_file_is(self, nyu, tmp_path):
        shard(nyu, tmp_path / "out", shard_bytes=10_000)
        shards = read_index(tmp_path / "out").splits["train"].shards
        assert 1 < len(shards) < 6
        for each in shards:
            content = (tmp_path / "out" / each.file).read_bytes()
            assert len(content) == each.size
            with tarfile.open(tmp_path / "out" / each.file) as tar:
                expected = {
                    f"{record.key}.{ending}": content[place.offset : place.offset + place.size]
                    for record in each.records
                    for ending, place in record.members.items()
                }
                assert expected == {info.name: tar.extractfile(info).read() for info in tar}

    def test_a_shard_is_closed_when_it_is_large_enough(self, nyu, tmp_path):
        found = open_split(shard(nyu, tmp_path / "out", shard_bytes=10_000), "train")
        contents = [
            sum(place.size for record in each.records for place in record.members.values()) for each in found.shards
        ]
        assert all(size > 5_000 for size in contents[:-1])
        assert all(size < 20_000 for size in contents)
