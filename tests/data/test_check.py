import numpy as np
import pytest

from metaprompts.data.check import check_part
from metaprompts.data.sample import Sample
from metaprompts.errors import InputError


class Numbered:
    """So many samples, of which some cannot be read; tells which were tried."""

    def __init__(self, count, bad=()):
        self.count, self.bad, self.tried = count, bad, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.tried.append(index)
        if index in self.bad:
            raise InputError(f"file {index} is bad")
        return Sample(image=np.zeros((2, 2, 3), np.uint8), path=str(index))


def test_a_few_samples_from_the_first_to_the_last():
    samples = Numbered(1000, bad=(999,))
    report = check_part("train", lambda: samples, official=1000)
    assert samples.tried[0] == 0
    assert samples.tried[-1] == 999
    assert len(samples.tried) == len(set(samples.tried)) == report.tried == 8
    assert report.bad == ("file 999 is bad",)
    assert [sample.path for sample in report.shown] == [str(samples.tried[place]) for place in (0, 2, 5)]
    assert report.is_usable
    assert report.line().split() == "train 1000 images, as published; 8 read, 1 bad".split()


def test_full_reads_all_and_tells_how_far_it_is():
    samples, totals = Numbered(20, bad=(3, 4)), []

    def progress(items, total):
        for item in items:
            totals.append(total)
            yield item

    report = check_part("val", lambda: samples, official=21, full=True, progress=progress)
    assert samples.tried == list(range(20))
    assert totals == [20] * 20
    assert (report.tried, len(report.bad), len(report.shown)) == (20, 2, 4)
    assert report.line().split() == "val 20 images (published: 21); 20 read, 2 bad".split()


def test_fewer_samples_than_are_tried():
    samples = Numbered(3)
    assert check_part("val", lambda: samples).tried == 3
    assert samples.tried == [0, 1, 2]


def test_missing():
    def open_part():
        raise InputError("folder x does not exist")

    report = check_part("test", open_part)
    assert not report.is_usable
    assert report.line().endswith("MISSING: folder x does not exist")


@pytest.mark.parametrize(("bad", "is_usable"), [((0,), True), ((0, 1), False)])
def test_usable_as_long_as_anything_can_be_read(bad, is_usable):
    assert check_part("val", lambda: Numbered(2, bad)).is_usable == is_usable
