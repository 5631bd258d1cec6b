import json
import shutil

import numpy as np
import pytest

from captioners import write_captioner
from metaprompts.captioning.captioner import Captioner, captioner_name
from metaprompts.errors import CaptionerError, InputError


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return write_captioner(tmp_path_factory.mktemp("captioner") / "blip")


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (20 + 10 * number, 30, 3), dtype=np.uint8) for number in range(3)]


def test_images_of_any_size_are_captioned_alone_as_together(captioner, images, tmp_path):
    together = Captioner(str(captioner), tmp_path / "a").caption(images)
    assert len(set(together)) == 3
    assert all(caption.strip() for caption in together)
    assert [Captioner(str(captioner), tmp_path / "b").caption([image])[0] for image in images] == together


@pytest.mark.slow
def test_a_image_is_captioned_once(captioner, images, tmp_path, monkeypatch):
    first = Captioner(str(captioner), tmp_path)
    said = first.caption(images)
    monkeypatch.setattr(Captioner, "_say", None)
    assert Captioner(str(captioner), tmp_path).caption(images[::-1]) == said[::-1]
    monkeypatch.undo()
    damaged = first.store.path(images[1])
    for content in ("", "{}", '{"caption": 3}', "[]"):
        damaged.write_text(content)
        assert Captioner(str(captioner), tmp_path).caption(images) == said
        assert json.loads(damaged.read_text())["caption"] == said[1]


def test_another_captioner_has_captions_of_its_own(captioner, tmp_path):
    other = write_captioner(tmp_path / "other", seed=1)
    shutil.copytree(captioner, tmp_path / "moved")
    assert captioner_name(str(captioner)) == captioner_name(str(tmp_path / "moved"))
    settings = other / "generation_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"min_length": 5}))
    assert captioner_name(str(captioner)) != captioner_name(str(other))
    assert captioner_name("somebody/blip") == "somebody/blip"


@pytest.mark.parametrize("source", ["nowhere", "/nowhere/at/all"])
def test_what_is_no_captioner_is_one_line(source, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no captioner at"):
        Captioner(source, tmp_path).caption(images)


def test_a_folder_without_a_model_is_one_line(images, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        Captioner(str(tmp_path / "empty"), tmp_path).caption(images)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_reported_once(captioner, images, tmp_path):
    """As an error of one image it was reported for each, after the model had captioned it."""
    (tmp_path / "file").touch()
    with pytest.raises(CaptionerError, match="file"):
        Captioner(str(captioner), tmp_path / "file").caption(images)
