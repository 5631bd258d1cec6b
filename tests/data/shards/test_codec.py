"""A sample as files of a shard, and back."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.shards.sharding import bits
from metaprompts.data.io.images import read_image
from metaprompts.data.sample import Person, Sample
from metaprompts.data.shards.codec import decode, encode

RNG = np.random.default_rng(0)


def noise(*shape, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def stored(sample, root, people=(), depth_scale=None):
    members = encode(sample, people, root=root, depth_scale=depth_scale)
    assert bits(decode(members, 0, root=root)) == bits(sample)
    return members


def image(tmp_path, name, array, **settings):
    path = tmp_path / name
    Image.fromarray(array).save(path, **settings)
    return path


class TestImage:
    def exif(self, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        return exif

    @pytest.mark.parametrize(
        ("name", "shape", "settings"),
        [
            ("a.jpg", (20, 30, 3), {}),
            ("a.JPEG", (20, 30, 3), {"quality": 30}),
            ("gray.jpg", (20, 30), {}),
            ("a.png", (20, 30, 3), {}),
        ],
    )
    def test_own_file_is_stored_as_it_is(self, tmp_path, name, shape, settings):
        path = image(tmp_path, name, noise(*shape), **settings)
        members = stored(Sample(image=read_image(path), path=str(path)), tmp_path)
        assert members["png" if name.endswith("png") else "jpg"] == path.read_bytes()
        assert json.loads(members["json"]) == {"path": name}

    @pytest.mark.parametrize("name", ["turned.jpg", "clear.png", "deep.png", "a.webp", "a.bmp", "a.tif"])
    def test_other_files_become_pixels_that_every_reader_sees(self, tmp_path, name):
        """Turned by EXIF, laid over white, scaled from 16 bits, or of an ending that WebDataset does not know."""
        if name == "deep.png":
            path = image(tmp_path, name, noise(20, 30, dtype=np.uint16))
        elif name == "turned.jpg":
            path = image(tmp_path, name, noise(20, 20, 3), exif=self.exif(6))
        else:
            path = image(tmp_path, name, noise(20, 30, 4 if name == "clear.png" else 3))
        sample = Sample(image=read_image(path), path=str(path))
        members = stored(sample, tmp_path)
        assert list(members) == ["png", "json"]
        assert np.array_equal(np.array(Image.open(BytesIO(members["png"]))), sample.image)

    def test_of_no_file_of_its_own(self, tmp_path):
        """As the images of NYU's MATLAB file."""
        (tmp_path / "all.mat").write_bytes(b"many")
        for name in ("all.mat/00003", "all.mat"):
            members = stored(Sample(image=noise(4, 5, 3), path=str(tmp_path / name)), tmp_path)
            assert list(members) == ["png", "json"]

    def test_path_outside_of_the_root(self, tmp_path):
        path = image(tmp_path, "a.png", noise(4, 5, 3))
        for root in (tmp_path / "other", Path("relative")):
            members = stored(Sample(image=read_image(path), path=str(path)), root)
            assert json.loads(members["json"])["path"] == str(path)


class TestTargets:
    def sample(self, **targets):
        return Sample(image=noise(20, 30, 3), path="a/b.png", **targets)

    def test_labels(self):
        sample = self.sample(labels=noise(20, 30))
        members = stored(sample, Path("a"))
        assert np.array_equal(np.array(Image.open(BytesIO(members["label.png"]))), sample.labels)

    @pytest.mark.parametrize("depth_scale", [1000.0, 256.0, 100.0, 3.7])
    def test_depth_of_whole_units(self, depth_scale):
        """All values that a file can hold, read as the reader of depth files reads them."""
        units = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        sample = self.sample(depth_m=units.astype(np.float32) / np.float32(depth_scale))
        members = stored(sample, Path("a"), depth_scale=depth_scale)
        assert np.array_equal(np.array(Image.open(BytesIO(members["depth.png"]))), units)
        assert json.loads(members["json"])["depth_units_per_meter"] == depth_scale

    @pytest.mark.parametrize(
        "depth_m",
        [
            RNG.uniform(0, 9, (20, 30)).astype(np.float32),
            np.full((2, 2), 65.536, np.float32),
            np.full((2, 2), -0.0, np.float32),
            np.full((2, 2), np.inf, np.float32),
            np.full((2, 2), np.nan, np.float32),
        ],
    )
    @pytest.mark.parametrize("depth_scale", [1000.0, None])
    def test_other_depth(self, depth_m, depth_scale):
        members = stored(self.sample(depth_m=depth_m), Path("a"), depth_scale=depth_scale)
        assert np.load(BytesIO(members["depth.npy"])).tobytes() == depth_m.tobytes()
        assert "depth.png" not in members

    def test_people(self):
        def person(number):
            return Person(
                keypoints=RNG.normal(0, 500, (17, 3)).astype(np.float32),
                box_xywh=(RNG.uniform(0, 1, 4) * 10.0 ** RNG.integers(-30, 30, 4)).astype(np.float32),
                image_id=7,
                annotation_id=2**40 + number,
                score=float(RNG.random()),
                area=float(np.float32(RNG.random())),
            )

        people = [person(number) for number in range(20)]
        sample = self.sample(person=people[0])
        members = stored(sample, Path("a"), people)
        for number, expected in enumerate(people):
            assert bits(decode(members, number, root=Path("a")).person) == bits(expected)
