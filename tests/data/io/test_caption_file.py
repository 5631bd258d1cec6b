import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from metaprompts.data.datasets.pairs import DepthPairs
from metaprompts.data.datasets.views import Captioned, ConcatSamples, SkipBadSamples
from metaprompts.data.io.caption_file import CaptionFile
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.data.sample import Sample
from metaprompts.data.transforms.tensors import to_tensors
from metaprompts.errors import InputError


def written(folder, captions):
    path = folder / "captions.json"
    path.write_text(json.dumps(captions))
    return CaptionFile(path, folder)


@pytest.mark.parametrize("name", ["images/a.png", "images/a", "a.png", "a", "elsewhere/a.png"])
def test_images_are_found_by_the_names_that_the_file_has(tmp_path, name):
    assert written(tmp_path, {name: "a red car"}).of(tmp_path / "images/a.png") == "a red car"


def test_the_whole_path_comes_before_the_bare_name(tmp_path):
    captions = written(tmp_path, {"a.png": "bare", "images/a.png": "whole"})
    assert captions.of(tmp_path / "images/a.png") == "whole"
    assert captions.of(tmp_path / "others/a.png") == "bare"


@pytest.fixture
def spelled(tmp_path):
    """An image next to its namesake, and ways to its folder; a file of captions distinguishes them."""
    for name in ("day", "night"):
        (tmp_path / "real" / name).mkdir(parents=True)
        (tmp_path / "real" / name / "a.png").touch()
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "real/b.png").symlink_to("night/a.png")
    return tmp_path


@pytest.mark.parametrize("root", ["real", "linked", "real/day/.."])
@pytest.mark.parametrize(
    "image",
    ["night/a.png", "./night/a.png", "day/../night/a.png", "../linked/night/a.png", "../real/night/a.png", "b.png"],
)
def test_an_image_is_found_however_its_path_is_spelled(spelled, monkeypatch, root, image):
    """Paths were compared letter by letter: an image named from its own folder, or by a link, had no caption."""
    (spelled / "captions.json").write_text(json.dumps({"day/a.png": "day", "night/a.png": "night"}))
    captions = CaptionFile(spelled / "captions.json", spelled / root)
    monkeypatch.chdir(spelled / "real")
    for path in (Path(image), spelled / "linked" / image, spelled / "real" / image):
        assert captions.of(path) == "night"


@pytest.mark.parametrize("name", ["./night/a.png", "day/../night/a", "b.png"])
def test_an_image_is_found_however_the_file_spells_it(spelled, name):
    captions = written(spelled / "real", {"day/a.png": "day", name: "night"})
    assert captions.of(spelled / "real/night/a.png") == "night"


def test_a_link_may_have_a_caption_of_its_own(spelled):
    captions = written(spelled / "real", {"b.png": "link", "night/a.png": "night"})
    assert [captions.of(spelled / "real" / name) for name in ("b.png", "night/a.png")] == ["link", "night"]


def test_a_name_that_two_images_have_is_none(tmp_path):
    captions = written(tmp_path, {"day/a.png": "day", "night/a.png": "night"})
    assert captions.of(tmp_path / "night/a.png") == "night"
    with pytest.raises(InputError) as caught:
        captions.of(Path("/other/a.png"))
    assert str(tmp_path / "captions.json") in str(caught.value)
    assert "/other/a.png" in str(caught.value)


@pytest.mark.parametrize("names", [("a.png", "day/a.png", "night/a.png"), ("a", "day/a.png", "day/a.jpg")])
def test_a_bare_name_is_of_one_image(tmp_path, names):
    """All images called frame_01 had the caption of one of them."""
    captions = written(tmp_path, {names[0]: "a red car"})
    assert [captions.of(tmp_path / names[1]) for _ in range(2)] == ["a red car"] * 2
    with pytest.raises(InputError, match=f"{names[1]} and .*{names[2]} would both have the caption of '{names[0]}'"):
        captions.of(tmp_path / names[2])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "holds no captions"),
        ("{}", "holds no captions"),
        ('{"a": 3}', "caption of 'a' is 3"),
        ('{"": "a"}', "'' is not a file name"),
        (r'{"\u0000": "a"}', "not a file name"),
        ("x", "not valid"),
    ],
)
def test_a_file_of_something_else_is_one_line(tmp_path, content, expected):
    (tmp_path / "captions.json").write_text(content)
    with pytest.raises(InputError, match=expected):
        CaptionFile(tmp_path / "captions.json", tmp_path)


class Gray:
    """Two samples of a file each."""

    def __len__(self):
        return 2

    def path(self, index):
        return f"/data/{range(2)[index]}.png"

    def files(self, index):
        return (Path(self.path(index)),)

    def __getitem__(self, index):
        return Sample(image=np.zeros((8, 8, 3), np.uint8), path=self.path(index))


class Sevens:
    """Contexts of all images but one."""

    def __call__(self, path):
        if path == "/data/1.png":
            raise InputError(f"no caption of {path}")
        return np.full((2, 3), 7, np.float32)

    def file(self, path):
        return Path("/cache") / Path(path).with_suffix(".npy").name


def test_a_sample_has_its_context_and_so_has_a_batch():
    samples = pickle.loads(pickle.dumps(Captioned(Gray(), Sevens())))
    assert (len(samples), samples.path(1)) == (2, "/data/1.png")
    assert samples.files(0) == (Path("/data/0.png"), Path("/cache/0.npy"))
    tensors = to_tensors(samples[0])
    assert tensors["context"].tolist() == [[7.0] * 3] * 2
    assert "context" not in to_tensors(Gray()[0])


def test_a_sample_without_caption_can_be_passed_over():
    samples = SkipBadSamples(Captioned(Gray(), Sevens()), at_most=1)
    assert samples[1].path == "/data/0.png"
    assert samples.path(1) == "/data/1.png"
    assert len(samples.bad) == 1


def test_paths_are_known_without_reading():
    pairs = DepthPairs([(Path("/data/x.png"), Path("/data/y.png"))], DepthEncoding())
    joined = ConcatSamples([Gray(), pairs])
    assert [joined.path(index) for index in range(3)] == ["/data/0.png", "/data/1.png", "/data/x.png"]
