"""A small encoder learns, goes on where it was stopped, and takes the place of its own VAE only."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metaprompts
from interrupted import KilledAt, KilledError
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.errors import InputError
from metaprompts.modules.backbone import LatentEncoder, load_backbone
from metaprompts.modules.backbone.distilled_encoder import EncoderShape, SmallEncoder, vae_fingerprint
from metaprompts.pretraining.distillation.config import Distillation
from metaprompts.pretraining.distillation.distill import distill
from metaprompts.pretraining.distillation.images import FolderImages, random_crop, scaled
from metaprompts.utils.callbacks import Callback
from small import small_model


def small_settings(out, **changes):
    few = {"steps": 6, "scenes": 3, "held_out": 2, "crop": 64, "batch_size": 2, "width": 16, "warmup_steps": 1}
    return Distillation(**{"source": "micro", "out": out, "device": "cpu", "checkpoint_seconds": 0.0, **few, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of a finished distillation of the miniature's VAE; not to be changed."""
    out = tmp_path_factory.mktemp("distillation") / "encoder"
    distill(small_settings(out), Callback())
    return out


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_if_it_had_not_been(made, tmp_path):
    out = tmp_path / "encoder"
    out.mkdir()
    (out / "scenes").symlink_to(made / "scenes")
    with pytest.raises(KilledError):
        distill(small_settings(out), KilledAt(3))

    distill(small_settings(out), Callback())

    for name in ("encoder.safetensors", "encoder.json", "report.json"):
        assert (out / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.slow
def test_begins_anew_if_asked_to(made, tmp_path):
    out = tmp_path / "encoder"
    out.mkdir()
    (out / "scenes").symlink_to(made / "scenes")
    distill(small_settings(out, width=8), Callback())

    with pytest.raises(InputError, match="differs from this run in widths"):
        distill(small_settings(out), Callback())
    distill(small_settings(out, resume="never"), Callback())

    assert (out / "encoder.safetensors").read_bytes() == (made / "encoder.safetensors").read_bytes()


@pytest.mark.slow
def test_learns_what_the_latents_are(tmp_path):
    """From six images, for one that is not among them: better by far than to give their mean."""
    _write_images(tmp_path / "images", 6)
    settings = small_settings(
        tmp_path / "out", data=tmp_path / "images", steps=120, crop=32, batch_size=4, checkpoint_seconds=60
    )

    found = distill(settings, Callback())

    assert found.images == 1
    assert found.unexplained < 0.6
    assert json.loads((tmp_path / "out/report.json").read_text())["unexplained"] == found.unexplained


@pytest.mark.slow
def test_takes_the_place_of_the_vae(made):
    model = metaprompts.load("micro-depth", "cpu")
    encoder = SmallEncoder.read(made)
    images = torch.rand(2, 3, 128, 192)

    prepared = OptimizedModel(model, encoder=encoder)

    (latent,) = prepared.encode(images)
    assert torch.equal(latent, encoder(images))
    assert prepared(images).shape == (2, 1, 128, 192)


def test_scales_latents_as_the_vae_does(made):
    teacher = LatentEncoder(load_backbone("micro").vae)
    teacher.scale = 0.25
    encoder, images = SmallEncoder.read(made), torch.rand(1, 3, 64, 64)

    assert torch.allclose(encoder.in_place_of(teacher)(images), 0.25 * encoder(images))


def test_another_vae_is_refused(made):
    with pytest.raises(InputError, match=r"was distilled from VAE \w{16}, but this model has \w{16}: make a new"):
        OptimizedModel(small_model("depth"), encoder=SmallEncoder.read(made))


def test_a_file_of_half_precision_is_the_same_vae():
    teacher = LatentEncoder(load_backbone("micro").vae)
    before = vae_fingerprint(teacher)

    assert vae_fingerprint(teacher.half()) == before


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 71), (63, 8)])
def test_latents_are_as_large_as_the_vaes(height, width):
    teacher = LatentEncoder(load_backbone("micro").vae)
    shape = EncoderShape.of_width(16, blocks=1, halvings=3, latent_channels=16, latent_scale=1.0)
    images = torch.rand(1, 3, height, width)

    assert SmallEncoder(shape, "")(images).shape == teacher(images).shape


def test_narrower_at_finer_levels():
    shape = EncoderShape.of_width(64, blocks=0, halvings=5, latent_channels=4, latent_scale=0.18215)

    assert shape.widths == (8, 8, 16, 32, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no small encoder at"),
        ("{}", "does not name the distilled VAE"),
        ('{"vae": "0", "widths": [8], "blocks": 1, "latent_channels": 4}', r"encoder\.json: missing latent_scale"),
        ('{"vae": "0", "widths": [], "blocks": 1, "latent_channels": 4, "latent_scale": 1}', "widths has 0 entries"),
        ('{"vae": "0", "widths": [8], "blocks": 1, "latent_channels": 4, "latent_scale": 1}', "no weights at"),
    ],
)
def test_what_is_no_encoder_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "encoder.json").write_text(content)

    with pytest.raises(InputError, match=message):
        SmallEncoder.read(tmp_path)


def test_images_of_a_folder_are_held_out_or_learned_from(tmp_path):
    _write_images(tmp_path, 10)

    images = FolderImages(tmp_path, held_out=64, crop=32)

    shades = {int(image[0, 0, 0]) for image in images.held_out()}
    drawn = {int(images.draw(np.random.default_rng(seed))[0, 0, 0]) for seed in range(100)}
    assert len(shades) == 2
    assert len(drawn) == 8
    assert not shades & drawn


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds 0 images; expected a folder with at least 2"):
        FolderImages(tmp_path / "missing", held_out=1, crop=32)


@pytest.mark.parametrize(
    ("height", "width", "shorter", "expected"),
    [(100, 200, 50, (50, 100)), (100, 200, 150, (100, 200)), (20, 31, 50, (32, 50)), (64, 32, 32, (64, 32))],
)
def test_images_shrink_and_grow_only_to_the_crop(height, width, shorter, expected):
    assert scaled(np.zeros((height, width, 3), np.uint8), shorter, least=32).shape[:2] == expected


def test_crops_are_squares_of_the_image():
    image = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
    generator = np.random.default_rng(0)
    squares = {(top, left): image[top : top + 4, left : left + 4] for top in range(3) for left in range(6)}

    for _ in range(50):
        crop = random_crop(image, 4, generator)
        assert any(np.array_equal(crop, each) or np.array_equal(crop, each[:, ::-1]) for each in squares.values())


def _write_images(folder, count):
    """Each of another shade at its top left corner, with blots of any color elsewhere."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(256, size=(6, 8, 3), dtype=np.uint8)
        coarse[0, 0] = 10 * number
        Image.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1)).save(folder / f"{number}.png")
