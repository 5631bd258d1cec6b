import numpy as np
import pytest
import torch

from metaprompts.captioning.disk_cache import EncodingStore
from metaprompts.errors import InputError


def encoding(captions):
    return torch.stack([torch.full((3, 4), float(len(caption))) for caption in captions])


class Counting:
    """Encodes, and remembers what."""

    def __init__(self):
        self.asked = []

    def __call__(self, captions):
        self.asked += captions
        return encoding(captions)


def test_a_caption_is_encoded_once(tmp_path):
    store, encode = EncodingStore(tmp_path, "f"), Counting()
    captions = [f"a {'very ' * number}red car" for number in range(40)]
    store.fill(captions[:5], encode)
    store.fill(captions, encode)
    assert encode.asked == captions
    np.testing.assert_array_equal(store.read(captions[7]), encoding([captions[7]])[0].numpy())
    assert store.read(captions[7]).dtype == np.float32
    assert not EncodingStore(tmp_path, "other").has(captions[0])


@pytest.mark.parametrize("left", [0, 10, 100, -1])
def test_a_file_that_was_cut_off_is_made_anew(tmp_path, left):
    store = EncodingStore(tmp_path, "f")
    store.fill(["a red car"], encoding)
    path = store.path("a red car")
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    assert not store.has("a red car")
    with pytest.raises(InputError, match="run the same command again"):
        store.read("a red car")
    store.fill(["a red car"], encoding)
    assert path.read_bytes() == whole


def test_numbers_that_are_none_are_found_when_they_are_read(tmp_path):
    store = EncodingStore(tmp_path, "f")
    store.fill(["a"], lambda captions: torch.full((1, 3, 4), torch.nan))
    with pytest.raises(InputError, match="damaged: delete it"):
        store.read("a")


def test_nothing_is_left_of_an_encoding_that_failed(tmp_path):
    def fail(captions):
        raise RuntimeError

    store = EncodingStore(tmp_path, "f")
    with pytest.raises(RuntimeError):
        store.fill(["a"], fail)
    assert not list(tmp_path.rglob("*.npy"))
