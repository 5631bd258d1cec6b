import dataclasses
import json
from contextlib import suppress

import numpy as np
import pytest
from diffusers import AutoencoderKL

from metaprompts.errors import InputError
from metaprompts.pretraining import array_shards
from metaprompts.pretraining.array_shards import Rows, missing_parts, read_notes, write_part
from metaprompts.pretraining.config import Diffusion, Pretraining, Scenes, Vae
from metaprompts.pretraining.pretrain import pretrain
from metaprompts.pretraining.scenes_stage import draw_scenes
from metaprompts.pretraining.text_to_image import read_architecture
from metaprompts.pretraining.vae_stage import encode
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.files import write_folder_whole
from pretraining.drawn import rectangle, small_settings

SMALL = Scenes(count=5, held_out=2, height=64, width=64, workers=1)


def test_scenes_are_drawn_from_their_seeds(run):
    scenes = Rows(run / "scenes/training", 9)
    captions = read_notes(run / "scenes/training", 9)
    for row in (0, 8):
        image, caption = rectangle(row, 64, 128)
        np.testing.assert_array_equal(scenes[row], image)
        assert captions[row] == caption
    np.testing.assert_array_equal(Rows(run / "scenes/held_out", 3)[2], rectangle(500_002, 64, 128)[0])


def test_only_missing_parts_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(array_shards, "PART_ROWS", 2)
    drawn = []

    def source(seed, height, width):
        drawn.append(seed)
        return rectangle(seed, height, width)

    draw_scenes(SMALL, tmp_path, source)
    assert sorted(drawn) == [0, 1, 2, 3, 4, 500_000, 500_001]
    drawn.clear()
    (tmp_path / "training/0000002.npy").unlink()
    draw_scenes(SMALL, tmp_path, source)
    assert drawn == [2, 3]
    drawn.clear()
    # More scenes: the last part, of one row, grows.
    draw_scenes(dataclasses.replace(SMALL, count=7), tmp_path, source)
    assert drawn == [4, 5, 6]
    assert len(read_notes(tmp_path / "training", 7)) == 7


@pytest.mark.slow
def test_several_processes_draw_the_same(tmp_path, monkeypatch):
    draw_scenes(SMALL, tmp_path / "one", rectangle)
    draw_scenes(dataclasses.replace(SMALL, workers=2), tmp_path / "two", rectangle)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_scenes_of_another_size_are_refused(tmp_path):
    draw_scenes(SMALL, tmp_path, rectangle)
    with pytest.raises(InputError, match=r"shape \(64, 64, 3\); expected \(64, 128, 3\)"):
        draw_scenes(dataclasses.replace(SMALL, width=128), tmp_path, rectangle)


def test_a_damaged_or_missing_part_is_named(tmp_path):
    with pytest.raises(InputError, match=r"0000000\.npy is missing"):
        Rows(tmp_path, 1)
    (tmp_path / "0000000.npy").write_bytes(b"no")
    with pytest.raises(InputError, match=r"0000000\.npy is damaged"):
        Rows(tmp_path, 1)


def test_rows_are_gathered_across_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(array_shards, "PART_ROWS", 2)
    for rows in array_shards.part_ranges(5):
        write_part(tmp_path, rows, np.array(rows))
    assert Rows(tmp_path, 5).gather([4, 0, 3]).tolist() == [4, 0, 3]
    assert missing_parts(tmp_path, 5, ()) == []


def test_latents_are_those_of_the_scenes_and_their_mirror_images(run):
    vae = AutoencoderKL.from_pretrained(run / "vae/model")
    images = Rows(run / "scenes/training", 9).gather(range(9))
    latents = Rows(run / "latents", 9).gather(range(9))
    assert latents.dtype == np.float16
    np.testing.assert_allclose(latents[:, 0], encode(vae, images).numpy(), atol=0.01)
    mirrored = encode(vae, np.ascontiguousarray(images[:, :, ::-1])).numpy()
    np.testing.assert_allclose(latents[:, 1], mirrored, atol=0.01)


def test_a_bad_vae_stops_the_run_before_it_is_used(run, tmp_path):
    for stage in ("scenes", "vae"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / stage).symlink_to(run / stage)
    with pytest.raises(InputError, match="the VAE is not good enough to continue"):
        pretrain(small_settings(tmp_path / "run", ignore_gates=False), Callback(), source=rectangle)
    assert not (tmp_path / "run/latents").exists()


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("vae", "missing"),
        ("latents", "missing"),
        ("text", "cannot read"),
        ("diffusion", "no VAE"),
        ("export", "no UNet"),
    ],
)
def test_a_stage_without_the_ones_before_it_says_so(stage, line, tmp_path):
    made = small_settings(tmp_path / "run")
    if stage == "export":
        draw_scenes(made.scenes, made.out / "scenes", rectangle)
    with pytest.raises(InputError, match=line):
        pretrain(made, Callback(), stage=stage, source=rectangle)


def test_latents_of_another_vae_are_refused(run, tmp_path):
    out = tmp_path / "run"
    for stage in ("scenes", "vae", "text"):
        out.mkdir(exist_ok=True)
        (out / stage).symlink_to(run / stage)
    (out / "latents").mkdir()
    (out / "latents/vae.json").write_text(json.dumps({"vae": "another"}))
    with pytest.raises(InputError, match="was not made by the VAE"):
        pretrain(small_settings(out), Callback(), stage="diffusion", source=rectangle)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with write_folder_whole(tmp_path / "made") as scratch:
        (scratch / "a").write_text("1")
    with suppress(RuntimeError), write_folder_whole(tmp_path / "made") as scratch:
        (scratch / "a").write_text("2")
        raise RuntimeError
    assert (tmp_path / "made/a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_miniature_fits_together(tmp_path):
    made = read_architecture(None)
    assert made.unet["sample_size"] == [16, 24]
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"unet": {**made.unet, "in_channels": 4}, "vae": made.vae, "text_encoder": {}}))
    with pytest.raises(InputError, match=r"unet\.in_channels is 4, but vae\.latent_channels is 16"):
        read_architecture(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="is not an architecture: expected a JSON object of unet, vae, text_encoder"):
        read_architecture(path)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Vae(steps=0), r"vae\.steps is 0"),
        (lambda: Vae(lr=float("nan")), r"vae\.lr is nan"),
        (lambda: Vae(whole_share=0.6), r"vae\.whole_share is 0\.6"),
        (lambda: Vae(crop=20), r"vae\.crop is 20"),
        (lambda: Diffusion(decay_fraction=0), r"diffusion\.decay_fraction is 0"),
        (lambda: Diffusion(drop_caption=1), r"diffusion\.drop_caption is 1"),
        (lambda: Scenes(width=100), r"scenes\.width is 100"),
        (lambda: Pretraining(out="x", vae=Vae(scenes=10), scenes=Scenes(count=5)), r"vae\.scenes is 10"),
    ],
)
def test_nonsense_is_refused(make, line):
    with pytest.raises(InputError, match=line):
        make()
