import logging
from dataclasses import replace

import numpy as np
import pytest

from metaprompts.data.sample import Sample
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe


class Maps:
    """Samples with these depths in meters; None stands for a file that cannot be read."""

    def __init__(self, *depths):
        self.depths = depths

    def __len__(self):
        return len(self.depths)

    def __getitem__(self, index):
        if self.depths[index] is None:
            raise InputError("broken")
        depth_m = np.array([self.depths[index]], np.float32)
        return Sample(image=np.zeros((*depth_m.shape, 3), np.uint8), path=f"{index}", depth_m=depth_m)


@pytest.fixture
def check():
    recipe = read_recipe("micro_depth", [])

    def run(*depths, mask=True):
        task = replace(recipe.task, mask_out_of_range=mask)
        task.check_samples(Maps(*depths), "validation split")

    return run


@pytest.mark.parametrize(("mask", "words"), [(True, "; masked"), (False, "; trained on, as task.mask_out_of_range")])
def test_depth_beyond_the_range_is_reported(check, caplog, mask, words):
    """Depth beyond task.max_depth_m was trained on without a word: d1 0.995 fell to 0.069."""
    with caplog.at_level(logging.WARNING):
        check([1, 20], [2, 3], mask=mask)
    assert "validation split, depth of 2 images" in caplog.text
    assert "25% at or beyond task.max_depth_m 10" in caplog.text
    assert words in caplog.text


def test_meters_read_as_millimeters(check, caplog):
    """Meters in an integer .npy, 1 to 8, trained as 1 to 8 mm without a word."""
    check([0.002, 0.008])
    assert "validation split; depth up to 0.008 m looks like meters read as millimeters" in caplog.text


def test_depth_in_range_needs_no_words(check, caplog):
    check([1, 0], None, [2, 3])
    assert not caplog.text


@pytest.mark.parametrize("depth_m", [0, 65.535, 1000])
def test_a_split_without_any_depth_in_range(check, depth_m):
    """A validation split whose depth was all unmeasured or all beyond the range ended with nan and exit code 0."""
    with pytest.raises(InputError, match=r"no image of the validation split has depth.*data\.depth_scale"):
        check(*[[depth_m]] * 20)


def test_one_image_in_range_is_enough(check):
    """It is not among the few that are tried first."""
    check(*[[0]] * 2, [1], *[[0]] * 17)
