import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from metaprompts.analysis.prompts import prompt_heatmaps
from metaprompts.cli import main
from metaprompts.models.loading import load
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.dataloaders import validation_batches, validation_split
from metaprompts.utils.files import write_json
from metaprompts.visualize.heatmaps import heat_legend, overlay_heat
from slow import slow_except
from small import SMALL

VALIDATION = {
    "segmentation": ["--data.val", "mask.txt", "--data.image_size", "64,64"],
    "depth": ["--data.val=depth.txt", "--data.image_size", "64,64"],
    "pose": ["--data.val", "people.json", "--data.val_images", "images"],
}


def image(path, size=(45, 83)):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_images_and_a_sheet_of_the_prompts_asked_for(models, tmp_path, capsys):
    pixels = image(tmp_path / "a.png")
    out = tmp_path / "out"
    assert main(["heatmaps", str(models / "depth"), str(tmp_path), "--prompts", "3, 0", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a_prompt000.png", "a_prompt003.png", "a_prompts.png"]
    for heatmap in prompt_heatmaps(load(models / "depth"), pixels, [0, 3]):
        drawn = np.asarray(Image.open(out / f"a_prompt{heatmap.prompt:03d}.png"))
        np.testing.assert_array_equal(drawn, overlay_heat(pixels, heatmap.map))
    key = heat_legend(
        2 * 320 + 3 * 8,
        ["response of each prompt in this image, on its own scale; row by row, in the order of --prompts"],
    )
    np.testing.assert_array_equal(np.asarray(Image.open(out / "a_prompts.png"))[-len(key) :], key)
    assert "heatmaps of 1 of 1 image," in capsys.readouterr().out


def test_a_image_without_people_is_named(models, data, tmp_path, capsys):
    people = json.loads((data / "people.json").read_text())
    (tmp_path / "nobody.json").write_text(json.dumps({**people, "annotations": []}))
    name = people["images"][0]["file_name"]
    (found,) = data.rglob(name)
    words = ["heatmaps", str(models / "pose"), str(found), "--out", str(tmp_path / "out")]
    assert main([*words, "--boxes", str(tmp_path / "nobody.json")]) == 2
    assert f"has no box for {found}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_bad_image_does_not_stop_the_others(models, tmp_path, capsys):
    image(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    image(tmp_path / "c.png", (1, 3))
    out = tmp_path / "out"
    words = ["heatmaps", str(models / "segmentation"), str(tmp_path), "--top", "2", "--level", "mean"]
    assert main([*words, "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "heatmaps of 2 of 3 images" in captured.out
    assert captured.err.count("\n") == 1
    assert "b.png" in captured.err
    assert len(list(out.glob("a_prompt0*.png"))) == len(list(out.glob("c_prompt0*.png"))) == 2
    assert len(list(out.iterdir())) == 6


def test_people_are_predicted_in_their_boxes(models, data, tmp_path):
    """The image is gray where no box is: x beyond 10 + 50 / 2 + 1.25 * 55 / 2."""
    words = ["heatmaps", str(models / "pose"), str(data / "images/001.png"), "--top", "1", "--out", str(tmp_path)]
    assert main([*words, "--boxes", str(data / "people.json")]) == 0
    (path,) = tmp_path.glob("001_prompt0*.png")
    drawn = np.asarray(Image.open(path)).astype(int)
    assert np.ptp(drawn[:, 71:], axis=-1).max() == 0
    assert np.ptp(drawn[:, 5:65], axis=-1).min() > 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["depth", "a.png", "--prompts", "4"], "no prompt 4: this model has prompts 0 to 3"),
        (["depth", "a.png", "--prompts", "1,x"], "--prompts is '1,x'; expected indices from 0"),
        (["depth", "a.png", "--prompts", ""], "Option '--prompts' is empty: give a value"),
        (["depth", "a.png", "--prompts", "1", "--top", "2"], "got both --prompts and --top"),
        (["depth", "a.png", "--top", "0"], "'--top': 0 is not in the range 1<=x"),
        (["depth", "a.png", "--level", "1"], "no level 1: this model has only level 0"),
        (["depth"], "no images given"),
        ([".", "a.png"], "config.json"),
        (["nowhere", "a.png"], "no model at"),
        (
            ["depth", "a.png", "--data.root", "."],
            "--data.root applies only to a data set: omit it, or give --data.root DIR",
        ),
        (
            ["depth", "a.png", "--recipe", "micro_depth"],
            "--recipe applies only to a data set: omit it, or give --data.root",
        ),
        (["pose", "a.png", "--min-box-score", "0.5"], "--min-box-score requires --boxes: add --boxes"),
        (
            ["depth", "--data.root", "."],
            "recipe.json does not exist: give a model folder that training wrote, or --recipe",
        ),
        (["depth", "--data.root", ".", "--recipe", "micro_pose"], "predicts depth, but the recipe is for pose"),
        (
            ["segmentation", "--data.root", ".", "--recipe", "micro_segmentation"],
            "but the recipe has ('sky', 'building',",
        ),
        (["depth", "--data.root", ".", "--recipe", "micro_depth", "--top", "3"], "--top applies only to images"),
        (
            ["pose", "--data.root", ".", "--min-box-score", "0.5"],
            "--min-box-score applies only to images: a data set is measured",
        ),
        (
            ["pose", "--data.root", ".", "--box-category", "dog"],
            "--box-category applies only to images: a data set is measured",
        ),
        (["depth", "--data.root", ".", "--data.rot", "1", "--recipe", "micro_depth"], "Did you mean '--data.root'?"),
        (
            ["depth", "--data.root", "--recipe", "micro_depth"],
            "Option '--data.root' needs a value, got the option --recipe",
        ),
        (["depth", "--data.root", "gone", "--recipe", "micro_depth"], "gone is not a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(models, tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "a.png")
    known = (models / words[0]).is_dir() and words[0] != "."
    model = str(models / words[0]) if known else str(tmp_path / words[0])
    assert main(["heatmaps", model, *words[1:], "--out", "out"]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def measured(out):
    content = json.loads((out / "responses.json").read_text())
    rows = (out / "responses.md").read_text().splitlines()
    assert Image.open(out / "responses.png").mode == "RGB"
    assert len([row for row in rows if row.startswith("|")]) == 2 + len(content["prompts"])
    return content


@pytest.mark.parametrize(
    ("task", "kind"), slow_except([("segmentation", "class"), ("depth", "depth"), ("pose", "joint")], ("pose", "joint"))
)
def test_a_data_set_is_measured(models, data, tmp_path, capsys, task, kind):
    sized = [word for word in SMALL[task] if word != "--data.image_size"]
    words = ["--recipe", f"micro_{task}", *sized, "--data.root", str(data), *VALIDATION[task]]
    assert main(["heatmaps", str(models / task), *words, "--data.num_workers", "0", "--out", str(tmp_path)]) == 0
    content = measured(tmp_path)
    assert content["kind"] == kind
    assert [row["prompt"] for row in content["prompts"]] == [0, 1, 2, 3]
    shown = capsys.readouterr().out
    assert shown.startswith("| prompt |")
    assert f"results in {tmp_path}" in shown
    for row in content["prompts"]:
        if kind == "class":
            assert row["preferred"] == max(row["z_scores"], key=row["z_scores"].get)
            assert min(row["means"].values()) < row["mean"] < max(row["means"].values())
        if kind == "joint":
            assert len(row["means"]) == len(row["peak_distance_px"]) == 17
        if kind == "depth":
            assert 0 < abs(row["correlation"]) <= 1


@pytest.mark.slow
def test_the_recipe_is_found_next_to_the_model(models, data, tmp_path):
    """The numbers are those of all maps of the split at once."""
    folder = tmp_path / "best"
    shutil.copytree(models / "depth", folder)
    overrides = [*SMALL["depth"], "--data.root", str(data), *VALIDATION["depth"], "--data.num_workers", "0"]
    recipe = read_recipe("micro_depth", overrides)
    write_json(folder / "recipe.json", recipe.to_dict())
    assert (
        main(["heatmaps", str(folder), "--data.root", str(data), "--device=cpu", "--out", str(tmp_path / "out")]) == 0
    )
    pixels, depths = [], []
    for batch in validation_batches(validation_split(recipe), recipe):
        with torch.inference_mode():
            (maps,) = load(folder, "cpu").prompt_maps(batch["image"])
        pixels.append(F.interpolate(maps, size=(64, 80), mode="bilinear")[0].flatten(1).double().numpy())
        depths.append(batch["depth_m"].flatten().numpy())
    expected = np.corrcoef(np.vstack([np.concatenate(pixels, axis=1), np.concatenate(depths)]))[4, :4]
    found = [row["correlation"] for row in measured(tmp_path / "out")["prompts"]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
