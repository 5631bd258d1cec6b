"""A running app, and what the command predicts for the same photo."""

import socket

import pytest
from PIL import Image

from metaprompts.app import examples
from metaprompts.app.server import serving
from metaprompts.app.settings import Limits, ModelSettings
from metaprompts.cli import main
from metaprompts.embedded import embedded_models
from metaprompts.recipes.loader import read_recipe
from metaprompts.synthetic import generate_scene
from metaprompts.training.build_model import build_model

PATIENCE_S = 120
SCENE = 36


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The app with the embedded models and one of several steps, and one small example."""
    pytest.importorskip("gradio", reason="the app's tests need gradio: pip install 'metaprompts[app]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAPROMPTS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("GRADIO_TEMP_DIR", "")
        patch.setattr(examples, "SEEDS", (SCENE,))
        patch.setattr(examples, "_HEIGHT", 96)
        patch.setattr(examples, "_WIDTH", 144)
        refined = tmp_path_factory.mktemp("models") / "normals"
        words = ["--data.image_size", "64,64", "--augment.crop_size", "64,64", "--refinement.steps", "2"]
        build_model(read_recipe("micro_normals", words)).save(refined)
        sources = [*embedded_models(), str(refined)]
        settings = ModelSettings(sources=sources, detector="micro-segmentation", engine="plain", device="cpu")
        limits = Limits(upload_bytes=1_000_000, side_px=1024, queue=128, timeout_s=PATIENCE_S)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with serving(settings, limits, port=port) as address:
            yield address.rstrip("/")


@pytest.fixture(scope="session")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "image.png"
    Image.fromarray(generate_scene(SCENE, 96, 144).image).save(path)
    return path


@pytest.fixture(scope="session")
def predicted(tmp_path_factory, photo):
    """Task -> the files of ``metaprompts predict`` for the photo."""
    files = {}
    for task, options in (("depth", ()), ("segmentation", ()), ("pose", ("--detector", "micro-segmentation"))):
        out = tmp_path_factory.mktemp(task)
        assert main(["predict", f"micro-{task}", str(photo), "--out", str(out), "--engine", "plain", *options]) == 0
        files[task] = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".png", ".json")}
    return files
