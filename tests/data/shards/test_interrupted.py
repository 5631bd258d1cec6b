"""Writing that is stopped, killed or meets bad samples."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from data.shards.sharding import Spoiled, assert_same_samples, files, shard
from interrupted import dead_scratch
from metaprompts.data.config.pose import PoseData
from metaprompts.data.datasets.views import SkipBadSamples
from metaprompts.data.shards import writer
from metaprompts.data.shards.index import read_index
from metaprompts.errors import InputError
from open_split import open_split


class TestInterrupted:
    def expected(self, nyu, tmp_path):
        shard(nyu, tmp_path / "straight", shard_bytes=10_000)
        return files(tmp_path / "straight")

    @pytest.mark.parametrize("stop", [0, 1, 3, 5])
    def test_it_goes_on_with_the_shard_it_was_at(self, nyu, tmp_path, stop):
        expected = self.expected(nyu, tmp_path)
        out, reported, stopped = tmp_path / "out", [], []

        def interrupted(samples):
            stopped.append(Spoiled(samples, KeyboardInterrupt(), {stop}))
            return stopped[-1]

        with pytest.raises(KeyboardInterrupt):
            shard(nyu, out, shard_bytes=10_000, change=interrupted)
        assert stopped[0].read == list(range(stop + 1))
        assert not any(path.name.startswith(".train") for path in out.iterdir())
        whole = len(list(out.glob("*.tar")))
        with pytest.raises(InputError, match=r"the train shards in .* are not finished: run the same metaprompts"):
            open_split(replace(nyu, shards=out), "train")
        again = []
        shard(
            nyu,
            out,
            shard_bytes=10_000,
            change=lambda samples: again.append(Spoiled(samples, KeyError(), ())) or again[-1],
            on_earlier=reported.append,
        )
        assert files(out) == expected
        records = [len(each.records) for each in read_index(out).splits["train"].shards[:whole]]
        assert reported == [sum(records), 0]
        assert again[0].read == list(range(sum(records), 6))

    def test_killed(self, nyu, tmp_path):
        """Between a shard and what is noted of it, and within a shard, too."""
        expected = self.expected(nyu, tmp_path)
        out = tmp_path / "out"
        with pytest.raises(KeyboardInterrupt):
            shard(nyu, out, shard_bytes=10_000, change=lambda samples: Spoiled(samples, KeyboardInterrupt(), {5}))
        parts = sorted((out / ".unfinished").iterdir())
        assert len(parts) >= 2
        parts[-1].unlink()
        for folder in (out, out / ".unfinished"):
            (folder / dead_scratch("train-000003.tar")).write_bytes(b"half")
        shard(nyu, out, shard_bytes=10_000)
        assert files(out) == expected

    def test_killed_when_all_is_written(self, nyu, tmp_path, monkeypatch):
        expected = self.expected(nyu, tmp_path)

        def stop(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(writer, "_remove_parts", stop)
            with pytest.raises(KeyboardInterrupt):
                shard(nyu, tmp_path / "out", shard_bytes=10_000)
        assert (tmp_path / "out/.unfinished").is_dir()
        shard(nyu, tmp_path / "out", shard_bytes=10_000)
        assert files(tmp_path / "out") == expected

    def test_finished_shards_are_not_written_again(self, nyu, tmp_path):
        expected = self.expected(nyu, tmp_path)
        reported = []
        shard(
            nyu,
            tmp_path / "straight",
            shard_bytes=10_000,
            change=lambda samples: Spoiled(samples, AssertionError("read"), set(range(6))),
            on_earlier=reported.append,
        )
        assert files(tmp_path / "straight") == expected
        assert reported == [6, 1]

    @pytest.mark.parametrize(
        "spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:99])]
    )
    @pytest.mark.parametrize("name", ["train-000000.tar", "train-000001.tar", "val-000000.tar"])
    def test_what_got_lost_is_written_again(self, nyu, tmp_path, spoil, name):
        expected = self.expected(nyu, tmp_path)
        spoil(tmp_path / "straight" / name)
        shard(nyu, tmp_path / "straight", shard_bytes=10_000)
        assert files(tmp_path / "straight") == expected

    def test_several_processes_write_the_same(self, nyu, tmp_path):
        expected = self.expected(nyu, tmp_path)
        shard(nyu, tmp_path / "out", shard_bytes=10_000, workers=2)
        assert files(tmp_path / "out") == expected

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_bad_sample_stops_it_until_it_is_mended(self, nyu, tmp_path, workers):
        expected = self.expected(nyu, tmp_path)
        path = open_split(nyu, "train")[4].path
        good = nyu.root.parent / "good.jpg"
        shutil.move(path, good)
        Path(path).write_bytes(b"no image")
        with pytest.raises(InputError, match=rf"^image {re.escape(path)} is not an image"):
            shard(nyu, tmp_path / "out", shard_bytes=10_000, workers=workers)
        shutil.move(good, path)
        shard(nyu, tmp_path / "out", shard_bytes=10_000, workers=workers)
        assert files(tmp_path / "out") == expected


class TestLeftOut:
    @pytest.mark.parametrize("shard_bytes", [1, 10**9])
    @pytest.mark.parametrize("bad", [{0}, {5}, {2, 3}, {0, 4, 5}])
    def test_the_next_sample_takes_its_place_as_when_folders_are_read(self, nyu, tmp_path, bad, shard_bytes, caplog):
        def spoil(samples):
            return Spoiled(samples, InputError("a.jpg is bad"), bad if len(samples) == 6 else ())

        made = shard(nyu, tmp_path / "out", shard_bytes=shard_bytes, change=spoil, at_most=3)
        assert_same_samples(open_split(made, "train"), SkipBadSamples(spoil(open_split(nyu, "train")), 3))
        assert [each.samples for each in open_split(made, "train").left_out] == [(place,) for place in sorted(bad)]
        assert caplog.text.count("skipped 1 of 6 samples: a.jpg is bad") == len(bad)

    def test_everybody_in_a_image(self, roots, tmp_path):
        root = shutil.copytree(roots / "coco", tmp_path / "coco")
        data = PoseData(root=root)
        people = open_split(data, "train")
        group = next(group for group in people.by_image() if len(group) > 1)
        Image.new("RGB", (5, 5)).save(people[group[0]].path)
        found = open_split(shard(data, tmp_path / "out", at_most=len(group)), "train")
        assert [each.samples for each in found.left_out] == [tuple(group)]
        assert_same_samples(found, SkipBadSamples(open_split(data, "train"), len(group)))

    @pytest.mark.parametrize(("bad", "at_most"), [({1, 2}, 1), (set(range(6)), 100)])
    def test_too_many(self, nyu, tmp_path, bad, at_most):
        with pytest.raises(
            InputError, match=rf"of 6 samples cannot be read, but data.max_bad_samples is {at_most}; the last: b"
        ):
            shard(
                nyu, tmp_path / "out", change=lambda samples: Spoiled(samples, InputError("bad"), bad), at_most=at_most
            )

    def test_what_was_left_out_before_an_interruption_counts(self, nyu, tmp_path):
        def spoil(samples):
            return Spoiled(samples, InputError("bad"), {1, 4})

        def interrupt(samples):
            return Spoiled(spoil(samples), KeyboardInterrupt(), {3})

        with pytest.raises(KeyboardInterrupt):
            shard(nyu, tmp_path / "out", change=interrupt, at_most=1)
        with pytest.raises(InputError, match="2 of 6 samples cannot be read"):
            shard(nyu, tmp_path / "out", change=spoil, at_most=1)

    def test_what_was_left_out_after_a_lost_shard_is_read_again(self, nyu, tmp_path):
        def spoil(samples):
            return Spoiled(samples, InputError("bad"), {1, 4} if len(samples) == 6 else ())

        shard(nyu, tmp_path / "out", change=spoil, at_most=2)
        expected = files(tmp_path / "out")
        (tmp_path / "out/train-000002.tar").unlink()
        shard(nyu, tmp_path / "out", change=spoil, at_most=2)
        assert files(tmp_path / "out") == expected
