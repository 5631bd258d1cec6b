"""Classes counted in masks, and what is said of those that never occur."""

import numpy as np
import pytest
from PIL import Image

from data.shards.sharding import shard
from labeled_folders import segmentation_folder
from metaprompts.cli import main
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.data.datasets import label_histogram
from metaprompts.data.datasets.label_histogram import check_any_label, count_labels
from metaprompts.data.datasets.views import ConcatSamples
from metaprompts.errors import InputError
from open_split import open_split

NAMES = ("background", "object")


def folder(root, *masks, **settings):
    for name in ("images", "masks"):
        (root / name).mkdir(exist_ok=True)
    for number, mask in enumerate(masks):
        Image.fromarray(np.array(mask, np.uint8)).save(root / f"masks/{number}.png")
        Image.new("RGB", np.shape(mask)[1::-1]).save(root / f"images/{number}.png")
    return segmentation_folder(root, "images", "masks", classes=NAMES, **settings)


class TestCounting:
    def test_shares_and_masks_are_counted_by_hand(self, tmp_path):
        counted = count_labels(folder(tmp_path, [[0, 0, 0, 1]], [[0, 255, 255, 0]], [[0, 7, 7, 255]]), NAMES)
        assert counted.lines() == [
            "classes in all 3 masks, share of pixels and number of masks:",
            "  background      50.00%      3",
            "  object           8.33%      1",
            "  7 (no class)    16.67%      1",
            "  255 (ignored)   25.00%      2",
        ]
        (line,) = counted.warnings()
        assert line.startswith("7 is neither a class nor ignored: 2 pixels in 1 of 3 masks; map it")

    def test_an_object_of_255_is_pointed_out(self, tmp_path):
        """A mask of 0/255 trained to loss 0.0000 and mIoU 1.0000 without a word: 255 was ignored."""
        (line,) = count_labels(folder(tmp_path, [[0, 0, 0, 255]]), NAMES).warnings()
        assert line == (
            "1 of 2 classes never occur in the only mask: object; 255 has 25.00% of the pixels and is ignored: "
            "--data.label_map 255=object?"
        )
        assert not count_labels(folder(tmp_path, [[0, 255]], label_map={"255": 1}), NAMES).warnings()

    def test_a_sample_is_always_the_same_and_says_so(self, tmp_path):
        samples = folder(tmp_path, *[[[0, number % 2]] for number in range(9)])
        first, second = (count_labels(samples, NAMES, at_most=4) for _ in range(2))
        assert first == second
        assert first.lines()[0].startswith("classes in 4 of 9 masks, drawn at random")
        assert (first.read, first.pixels.total()) == (4, 8)

    def test_large_masks_are_counted_up_to_a_limit(self, tmp_path, monkeypatch):
        monkeypatch.setattr(label_histogram, "_PIXELS_AT_MOST", 5)
        samples = folder(tmp_path, *[[[0, 1]] for _ in range(9)])
        assert count_labels(samples, NAMES, at_most=8).read == 3
        assert count_labels(samples, NAMES).read == 9

    def test_masks_that_cannot_be_read_are_reported(self, tmp_path):
        samples = folder(tmp_path, [[0, 1]], [[0, 1]])
        (tmp_path / "masks/1.png").write_bytes(b"no image")
        assert "classes in 1 of 2 masks, every readable one" in count_labels(samples, NAMES).lines()[0]

    def test_of_many_classes_there_is_a_paragraph(self, tmp_path):
        names = tuple(f"c{number}" for number in range(150))
        lines = count_labels(folder(tmp_path, [[0, 1]]), names).lines()
        assert 2 < len(lines) < 40
        assert max(map(len, lines)) < 120

    def test_of_shards_and_of_several_parts(self, tmp_path):
        masks = [[[0, 1, 255, 255]], [[0, 0, 0, 255]]]
        samples = folder(tmp_path, *masks)
        data = SegmentationData(root=tmp_path, train="images", train_labels="masks", val="images", val_labels="masks")
        sharded = open_split(shard(data, tmp_path / "out", NAMES), "train", NAMES)
        for found in (sharded, ConcatSamples([samples]), [samples[0], samples[1]]):
            counted = count_labels(found, NAMES)
            assert ([counted.pixels[0], counted.pixels[1]], counted.pixels.total()) == ([4, 1], 8)
        assert "(ignored)" in count_labels(sharded, NAMES).lines()[-1]

    def test_colors(self, tmp_path):
        label_map = {"0,0,0": 0, "255,0,0": 1}
        samples = folder(tmp_path, [[[0, 0, 0], [255, 0, 0], [1, 2, 3]]], label_map=label_map)
        (line,) = count_labels(samples, NAMES).warnings()
        assert line.startswith("#010203 is neither a class")

    def test_the_best_guess_of_one_who_sees_nothing(self, tmp_path):
        assert count_labels(folder(tmp_path, [[0, 0, 0, 1, 255]]), NAMES).best_guess() == ("background", 0.75 / 2)
        (tmp_path / "b").mkdir()
        assert count_labels(folder(tmp_path / "b", [[255]]), NAMES).best_guess() is None


class TestAllIgnored:
    """A split of nothing but 255 was trained to loss 0 and scored to mIoU nan, exit 0."""

    def test_it_is_refused_by_name(self, tmp_path):
        with pytest.raises(InputError, match=r"every pixel of the training split is ignored: 2 masks .* 255; map it"):
            check_any_label(folder(tmp_path, [[255, 255]], [[255, 255]]), "training split")

    def test_one_pixel_is_enough(self, tmp_path):
        check_any_label(folder(tmp_path, [[255, 255]], [[255, 1]]), "training split")

    def test_what_cannot_be_read_is_left_to_the_reader(self, tmp_path):
        samples = folder(tmp_path, [[255, 255]])
        (tmp_path / "masks/0.png").write_bytes(b"no image")
        check_any_label(samples, "training split")


class TestDataCheck:
    def check(self, root, *words):
        lists = ("--data.train", "images", "--data.train_labels", "masks", "--data.val", "images")
        named = ("--data.val_labels", "masks", "--task.classes", ",".join(NAMES), "--out", "none")
        return main(["data", "check", "micro_segmentation", "--data.root", str(root), *lists, *named, *words])

    def test_the_histogram_and_its_warnings_are_shown(self, tmp_path, capsys):
        folder(tmp_path, [[0, 255]])
        assert self.check(tmp_path) == 0
        printed = capsys.readouterr().out
        assert "  255 (ignored)   50.00%      1" in printed
        assert "warning: 1 of 2 classes never occur in the only mask: object; 255 has" in printed
        assert self.check(tmp_path, "--data.label_map", "255=object") == 0
        assert "never occur" not in capsys.readouterr().out

    def test_values_beyond_the_samples_that_were_read_are_found(self, tmp_path, capsys):
        folder(tmp_path, *[[[0, 9 if number == 3 else 1]] for number in range(30)])
        assert self.check(tmp_path) == 1
        assert "bad: 9 is neither a class nor ignored: 1 pixel in 1 of 30 masks" in capsys.readouterr().out

    def test_nothing_but_ignored(self, tmp_path, capsys):
        folder(tmp_path, [[255]])
        assert self.check(tmp_path) == 1
        assert "split is ignored: 1 mask with nothing but 255; map it" in capsys.readouterr().out
