"""Shards of other data, and damaged ones."""

import re
from dataclasses import replace

import numpy as np
import pytest

from data.shards.sharding import BOXES, Spoiled, assert_same_samples, files, origin, shard
from layout_classes import ADE20K, CITYSCAPES
from metaprompts.data.config.depth import DepthData
from metaprompts.data.config.pose import PoseData
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.data.datasets.views import SkipBadSamples
from metaprompts.data.shards.index import read_index
from metaprompts.data.shards.writer import begin, write_split
from metaprompts.errors import InputError
from open_split import open_split


def of_two(nyu):
    """The same with a list of two training images."""
    lines = (nyu.root / "train_list.txt").read_text().splitlines(keepends=True)
    (nyu.root / "short.txt").write_text("".join(lines[:2]))
    return replace(nyu, train_list="short.txt")


class TestRefused:
    def test_another_task_or_other_classes(self, nyu, roots, tmp_path):
        made = shard(nyu, tmp_path / "out")
        with pytest.raises(
            InputError, match=r"made with task depth, but the recipe has segmentation: use the same value"
        ):
            open_split(SegmentationData(shards=made.shards), "train", ("a", "b"))
        with pytest.raises(InputError, match=r"made with task depth, but the recipe has pose"):
            open_split(PoseData(shards=made.shards), "val")
        data = SegmentationData(root=roots / "ade20k", layout="ade20k")
        made = shard(data, tmp_path / "ade20k", ADE20K)
        with pytest.raises(InputError, match=r"made with number of classes 150, but the recipe has 19"):
            open_split(made, "train", CITYSCAPES)
        with pytest.raises(InputError, match=r"different task.classes \(class 0 is 'wall', not 'flag'\)"):
            open_split(made, "train", ADE20K[::-1])

    def test_other_joints(self, roots, tmp_path):
        made = shard(PoseData(root=roots / "coco"), tmp_path / "out")
        with pytest.raises(InputError, match=r"has the joints nose, .* task.joints are head: use the same joints"):
            open_split(made, "train").check_joints(("head",))

    def test_keys_that_decide_what_is_in_a_split(self, nyu, roots, tmp_path):
        made = shard(nyu, tmp_path / "out")
        with pytest.raises(
            InputError, match=r"made with data.layout nyu, but the recipe has lists: use the same value"
        ):
            open_split(DepthData(shards=made.shards), "train")
        made = shard(PoseData(root=roots / "coco", val_boxes=BOXES), tmp_path / "coco")
        with pytest.raises(InputError, match=rf"made with data.val_boxes {BOXES}, but the recipe has none"):
            open_split(replace(made, val_boxes=None), "val")
        assert len(open_split(replace(made, val_boxes=None, train="another.json"), "train")) > 0

    def test_shards_of_other_data_are_not_written_over(self, nyu, tmp_path):
        out = tmp_path / "out"
        shard(nyu, out)
        before = files(out)
        other = of_two(nyu)
        with pytest.raises(
            InputError, match=r"that differ in data.train_list: use .* or pass --resume never to discard them"
        ):
            begin(out, origin(other))
        with pytest.raises(InputError, match=r"that differ in --shard-bytes"):
            begin(out, origin(nyu, shard_bytes=7))
        with pytest.raises(InputError, match=r"has shards of 6 train samples, but the data now has 2"):
            write_split(out, "train", open_split(other, "train"))
        assert files(out) == before

    def test_restart_discards_them(self, nyu, tmp_path):
        out = tmp_path / "out"
        shard(nyu, out)
        with pytest.raises(KeyboardInterrupt):
            shard(nyu, out, restart=True, change=lambda samples: Spoiled(samples, KeyboardInterrupt(), {3}))
        assert list(out.glob("train-*.tar"))
        assert not list(out.glob("val-*.tar"))
        other = of_two(nyu)
        shard(other, out, restart=True)
        shard(other, tmp_path / "expected")
        assert files(out) == files(tmp_path / "expected")

    @pytest.mark.parametrize("restart", [False, True])
    def test_a_folder_of_something_else_is_left_alone(self, nyu, tmp_path, restart):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/thesis.tex").write_text("years")
        with pytest.raises(InputError, match=r"is not empty and holds no shards.json: give a new or empty folder"):
            begin(tmp_path / "out", origin(nyu), restart=restart)
        with pytest.raises(InputError, match=r"thesis.tex is not a folder"):
            begin(tmp_path / "out/thesis.tex", origin(nyu), restart=restart)
        assert files(tmp_path / "out") == {"thesis.tex": b"years"}


def change_byte(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


class TestDamaged:
    @pytest.fixture
    def made(self, nyu, tmp_path):
        return shard(nyu, tmp_path / "out", shard_bytes=10_000)

    def second(self, made):
        """The second shard and the place of the first sample in it."""
        path = made.shards / "train-000001.tar"
        return path, read_index(made.shards).splits["train"].shards[1].records[0].samples[0]

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda path: path.unlink(), "does not exist"),
            (lambda path: path.write_bytes(path.read_bytes()[:700]), "has 700 bytes; expected"),
        ],
    )
    def test_missing_or_cut_off(self, nyu, made, spoil, words):
        path, first = self.second(made)
        spoil(path)
        with pytest.raises(
            InputError, match=rf"^shard {re.escape(str(path))} \(samples {first:08d} to .* {words}.*: copy"
        ):
            open_split(made, "train")
        assert len(open_split(made, "val")) == 1
        # Who wants bad samples to be skipped gets the others.
        samples = open_split(replace(made, on_error="skip"), "train")
        with pytest.raises(
            InputError, match=rf"^{first:08d}\.\w+ of shard {re.escape(str(path))} (cannot be read|is truncated)"
        ):
            samples[first]
        bad = [record.samples[0] for record in samples.shards[1].records]
        skip_bad = SkipBadSamples(samples, len(bad))
        assert_same_samples(
            skip_bad, SkipBadSamples(Spoiled(open_split(nyu, "train"), InputError("bad"), bad), len(bad))
        )
        assert skip_bad.bad == bad != []

    def test_one_bit(self, made):
        """An image of which a bit has changed may well be decoded, to something else."""
        path, first = self.second(made)
        for ending, place in read_index(made.shards).splits["train"].shards[1].records[0].members.items():
            change_byte(path, place.offset + place.size // 2)
            samples = open_split(made, "train")
            with pytest.raises(
                InputError, match=rf"^{first:08d}\.{ending} of shard {re.escape(str(path))} is damaged: copy"
            ):
                samples[first]
            change_byte(path, place.offset + place.size // 2)
        assert samples[first].path

    def test_validation_always_stops(self, made):
        (made.shards / "val-000000.tar").unlink()
        with pytest.raises(InputError, match=r"val-000000\.tar .*does not exist"):
            open_split(replace(made, on_error="skip"), "val")

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda path: path.unlink(), "holds no shards.json: give a folder that metaprompts data shard wrote"),
            (lambda path: path.write_text("{"), "is not valid JSON"),
            (lambda path: path.write_text("[]"), "has version None"),
            (lambda path: path.write_text(path.read_text().replace('"version":1', '"version":2')), "has version 2"),
            (lambda path: path.write_text(path.read_text().replace('"samples":[3]', '"samples":[2]')), "is damaged"),
            (lambda path: path.write_text(path.read_text().replace('"records"', '"record"', 1)), "is damaged"),
            (lambda path: path.write_text(path.read_text().replace('"root"', '"rooot"', 1)), "is damaged"),
        ],
    )
    def test_index(self, made, spoil, words):
        spoil(made.shards / "shards.json")
        with pytest.raises(InputError, match=re.escape(words)):
            open_split(made, "train")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (r'"samples":6', '"samples":1000000000'),
            (r'"samples":6', '"samples":1e9'),
            (r'"samples":6', '"samples":-6'),
            (r'"samples":6', '"samples":"6"'),
            (r'"size":\d+', '"size":99999999999999999999'),
            (r'"size":\d+', '"size":1'),
            (r'"file":"train-000000.tar"', '"file":"../train-000000.tar"'),
            (r'"json":\[\d+', '"json":[1e400'),
            (r'"json":\[\d+', '"json":[-1'),
            (r'"json":\[\d+,\d+', '"json":[0,1000000000000'),
            (r'"json":', '"jason":'),
            (r'"train":{', '"trian":{'),
            (r'"samples":\[3\]', '"samples":[3,3]'),
            (r'"samples":\[3\]', '"samples":[]'),
            (r'"samples":\[3\]', '"samples":[1000000000000]'),
            (r'"classes":null', '"classes":"many"'),
            (r'"origin":{', '"origin":{"more":1,'),
        ],
    )
    def test_an_index_of_odd_values(self, made, old, new):
        """A number of samples of 1e9 took all memory."""
        path = made.shards / "shards.json"
        changed, times = re.subn(old, new, path.read_text(), count=1)
        assert times == 1
        path.write_text(changed)
        with pytest.raises(InputError, match=r"shards.json is damaged|not valid JSON") as caught:
            open_split(made, "train")
        assert "\n" not in str(caught.value)

    def test_annotations(self, roots, tmp_path):
        made = shard(PoseData(root=roots / "coco"), tmp_path / "out")
        (tmp_path / "out/val_annotations.json").unlink()
        with pytest.raises(InputError, match=r"annotation file .*val_annotations.json does not exist: copy it again"):
            open_split(made, "val")
        shard(PoseData(root=roots / "coco"), tmp_path / "out")
        assert isinstance(open_split(made, "val")[0].image, np.ndarray)
