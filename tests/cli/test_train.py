import json
import re
from dataclasses import fields

import numpy as np
import pytest
import torch

from metaprompts.cli import main
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.recipe import section_types
from metaprompts.tasks import TASKS
from slow import slow_except
from small import SMALL, tiny_backbone

LISTS = {
    "segmentation": ["--data.train", "mask.txt", "--data.val", "mask.txt"],
    "depth": ["--data.train", "depth.txt", "--data.val", "depth.txt"],
    "pose": [
        *("--data.train", "people.json", "--data.val", "people.json"),
        *("--data.train_images", "images", "--data.val_images", "images"),
    ],
}
pytestmark = pytest.mark.usefixtures("no_curves")

BEST = {"segmentation": "mIoU", "depth": "rmse", "pose": "AP"}


def arguments(task: str, data, out) -> list[str]:
    sized = [] if task == "pose" else ["--data.image_size", "64,64", "--augment.crop_size", "64,64"]
    return [
        "train",
        f"micro_{task}",
        *("--data.root", str(data), "--training.output_dir", str(out), *LISTS[task], *SMALL[task], *sized),
        *("--prompts.count", "4", "--refinement.steps", "2", "--data.num_workers", "0"),
        *("--training.steps", "2", "--training.batch_size", "2", "--training.validate_every", "1"),
        *("--backbone.source", tiny_backbone(), "--training.report_to", "none"),
    ]


@pytest.mark.parametrize("task", slow_except(SMALL, "depth"))
@pytest.mark.slow
def test_training_ends_with_a_model_that_evaluates_alike(task, data, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(arguments(task, data, out)) == 0
    said = capsys.readouterr()
    assert f"{BEST[task]} " in said.out
    assert ("share of pixels and number of masks" in said.err) == (task == "segmentation")
    metrics = json.loads((out / "metrics.json").read_text())
    assert [entry["step"] for entry in metrics["validations"]] == [1, 2]
    assert (out / "log.jsonl").read_text().count('"total"') == 2
    assert json.loads((out / "recipe.json").read_text())["training"]["steps"] == 2

    assert main(["evaluate", str(out / "last"), "--data.root", str(data)]) == 0
    scores = json.loads((out / "last/evaluation/metrics.json").read_text())
    last = {key: value for key, value in metrics["validations"][-1].items() if key != "step"}
    assert scores.keys() == last.keys()
    for name, value in last.items():
        # Loaded tensors lie elsewhere in memory, which can change the last bit of a sum.
        np.testing.assert_allclose(np.array(scores[name], float), np.array(value, float), rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_resolved_recipe_and_the_same_seed_train_the_same_again(data, tmp_path):
    assert main(arguments("depth", data, tmp_path / "a")) == 0
    assert main(["train", str(tmp_path / "a/recipe.json"), "--training.output_dir", str(tmp_path / "b")]) == 0
    assert main([*arguments("depth", data, tmp_path / "c"), "--training.seed", "1"]) == 0
    first, second, other = (MetaPromptModel.from_pretrained(tmp_path / name / "last").state_dict() for name in "abc")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["head.regress.0.weight"], other["head.regress.0.weight"])


@pytest.mark.parametrize("task", list(SMALL))
def test_help_of_a_recipe_lists_its_keys(task, capsys):
    assert main(["train", f"micro_{task}", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--optimizer.backbone_lr_mult" in printed
    assert "--data.root" in printed


@pytest.mark.parametrize("task", TASKS)
def test_help_of_a_recipe_lists_every_key_with_default_and_meaning(task, capsys):
    assert main(["train", f"scenes_{task}", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for section, keys in {"task": TASKS[task], **section_types(task)}.items():
        for key in fields(keys):
            pattern = rf"--{section}\.{key.name} \S+ [^\[-].*?\[(default|here): .+?\]"
            assert not key.init or re.search(pattern, printed), key.name


def test_help_of_a_recipe_shows_defaults_next_to_other_values(capsys):
    assert main(["train", "nyu", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"--data\.num_workers INTEGER [^\[]*\[here: 8; default: \d\]", printed)
    assert re.search(r"--training\.seed INTEGER [^\[]*\[default: 0\]", printed)
    assert re.search(r"--training\.batch_size INTEGER [^\[]*\[here: 24\]", printed)


def test_a_loss_that_is_not_finite_stops_with_one_line(data, tmp_path, capsys):
    words = [*arguments("depth", data, tmp_path / "a"), "--optimizer.lr", "1000", "--training.steps", "20"]
    words += ["--schedule.kind", "constant", "--optimizer.max_grad_norm", "none", "--training.validate_every", "100"]
    assert main(words) == 2
    assert "no longer finite at step" in capsys.readouterr().err


def test_a_corrupt_image_names_its_file(data, tmp_path, capsys):
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "depth.txt").write_text("bad.png bad.png\n" * 3)
    assert main(arguments("depth", tmp_path, tmp_path / "run")) == 2
    assert "bad.png" in capsys.readouterr().err
