"""Small models and images to label."""

import numpy as np
import pytest
from PIL import Image

from metaprompts.scale.job import LabelJob
from metaprompts.scale.labeler import model_fingerprint
from small import small_model


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with the model folders segmentation, depth and pose."""
    folder = tmp_path_factory.mktemp("models")
    for task in ("segmentation", "depth", "pose"):
        small_model(task).save(folder / task)
    return folder


@pytest.fixture
def photos(tmp_path):
    """Five images, one of them in a subfolder, and a file that is not an image."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name in ("a.png", "b/c.png", "d.png", "e.png", "f.png"):
        Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.md").write_text("not an image")
    return folder


@pytest.fixture
def job(models, tmp_path):
    """Makes a job: job("depth", source, **fields)."""

    def made(task, source, **fields):
        fields = {"format": "tar", "shard_size": 2, "options": {"device": "cpu", "batch_size": 2}, **fields}
        model = str(models / task)
        return LabelJob(
            model=model, fingerprint=model_fingerprint(model), source=str(source), out=str(tmp_path / "out"), **fields
        )

    return made
