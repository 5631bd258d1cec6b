import json
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import huggingface_hub
import pytest
import yaml
from huggingface_hub.errors import HFValidationError

from metaprompts.cli import main
from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.models.config import ModelConfig
from metaprompts.models.model_card import model_card

RECIPE = {
    "data": {"layout": "lists", "root": "/home/someone/private"},
    "training": {"steps": 200, "batch_size": 8, "init_from": "/home/someone/first/best"},
    "backbone": {"source": "stable-diffusion-v1-5/stable-diffusion-v1-5"},
}


@pytest.fixture
def config():
    return ModelConfig.from_dict(json.loads((embedded_folder("micro-depth") / "config.json").read_text()))


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_a_card_says_what_was_trained_on_what_and_how_well(config):
    card = model_card(config, RECIPE, {"step": 150, "d1": 0.8125, "rmse": 2.5, "iou_per_class": [1.0]})
    assert metadata(card) == {
        "library_name": "metaprompts",
        "license": "creativeml-openrail-m",
        "base_model": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "pipeline_tag": "depth-estimation",
        "tags": ["metaprompts", "stable-diffusion", "depth"],
    }
    assert "| rmse (m) | 2.5000 | root of" in card
    for line in ("after step 150:", "| d1 | 0.8125 | share of pixels", "| training.steps | 200 |", "| task | depth |"):
        assert line in card
    assert "iou_per_class" not in card


@pytest.mark.parametrize("name", embedded_models())
def test_the_cards_of_the_embedded_models_do_not_claim_stable_diffusion(name):
    """They said "on the UNet of Stable Diffusion", whose weights they do not have."""
    folder = embedded_folder(name)
    config = ModelConfig.from_dict(json.loads((folder / "config.json").read_text()))
    stored = (folder / "README.md").read_text()
    assert "UNet of Stable Diffusion," not in stored
    (sentence,) = (line for line in stored.splitlines() if line.startswith("A perception model"))
    assert sentence in model_card(config, {"backbone": {"source": "micro"}}).splitlines()


def test_a_card_says_what_the_model_is_conditioned_on(config):
    card = model_card(replace(config, prompts=replace(config.prompts, kind="caption")), RECIPE)
    assert "on the UNet of Stable Diffusion, conditioned on a caption of each image" in card


def test_folders_of_the_training_machine_stay_out(config):
    card = model_card(config, {**RECIPE, "backbone": {"source": "/home/someone/sd"}})
    assert "/home/someone" not in card
    assert "| backbone | sd |" in card
    assert "license" not in metadata(card)
    assert "The license of the backbone, sd, applies" in card


def test_an_unknown_backbone_is_not_given_a_license(config):
    card = model_card(config)
    assert {"license", "base_model"}.isdisjoint(metadata(card))
    assert "## Training" not in card
    assert "## Metrics" not in card


class Hub:
    """Stands for huggingface_hub's HfApi."""

    calls: ClassVar[list] = []
    error = None

    def __init__(self, **options):
        self.calls.clear()

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append((repo_id, private, exist_ok))

    def create_commit(self, repo_id, operations, *, commit_message):
        if self.error is not None:
            raise self.error
        files = {each.path_in_repo: each.path_or_fileobj for each in operations}
        self.calls.append((repo_id, files, commit_message))
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "error", None)
    return Hub


def test_push_uploads_a_model_in_one_commit(hub, capsys):
    assert main(["push", "micro-depth", "me/depth", "--private", "--message", "first"]) == 0
    assert capsys.readouterr().out == "https://hub/me/depth/commit/1\n"
    created, (repo, files, message) = hub.calls
    assert created == ("me/depth", True, True)
    assert (repo, message) == ("me/depth", "first")
    assert set(files) == {"config.json", "model.safetensors", "recipe.json", "README.md"}


def test_push_says_which_paths_become_public(hub, tmp_path, capsys):
    for path in embedded_folder("micro-depth").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    recipe["data"]["root"] = "/home/someone/private"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "README.md").write_text("mine")
    assert main(["push", str(tmp_path), "me/depth"]) == 0
    assert "recipe.json data.root: /home/someone/private is a path on this machine" in capsys.readouterr().err
    assert hub.calls[1][1]["README.md"] == str(tmp_path / "README.md")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (HFValidationError("Repo id must be in the form"), "nowhere is not a repository: expected owner/name"),
        (OSError("no route"), "the upload to nowhere failed (OSError: no route): check the network"),
    ],
)
def test_a_failed_upload_is_one_line(hub, monkeypatch, capsys, error, line):
    monkeypatch.setattr(hub, "error", error)
    assert main(["push", "micro-depth", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
