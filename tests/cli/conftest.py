"""Small models and small data sets that the commands run on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from small import SMALL, small_model


@pytest.fixture(autouse=True)
def _no_converted_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which engine is taken must not depend on what this machine has predicted before."""
    monkeypatch.setenv("METAPROMPTS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model folders segmentation, depth and pose."""
    folder = tmp_path_factory.mktemp("models")
    for task in SMALL:
        small_model(task).save(folder / task)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four images and their masks, depth and keypoints, the same for training and validation."""
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    lines: dict[str, list[str]] = {"mask": [], "depth": []}
    people, images = [], []
    for number in range(1, 5):
        (root / "images").mkdir(exist_ok=True)
        image = generator.integers(0, 255, (64, 80, 3), dtype=np.uint8)
        labels = np.zeros((64, 80), np.uint8)
        labels[: 16 * number % 64] = 1
        image[labels == 1] //= 4
        Image.fromarray(image).save(root / f"images/{number:03d}.png")
        Image.fromarray(labels).save(root / f"mask{number}.png")
        Image.fromarray(1000 + 1000 * labels.astype(np.uint16)).save(root / f"depth{number}.png")
        for kind, entries in lines.items():
            entries.append(f"images/{number:03d}.png {kind}{number}.png")
        images.append({"id": number, "file_name": f"{number:03d}.png", "width": 80, "height": 64})
        people.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [10, 5, 50, 55],
                "area": 1500,
                "num_keypoints": 17,
                "keypoints": [value for joint in range(17) for value in (12 + 2 * joint, 8 + 3 * joint, 2)],
            }
        )
    for kind, entries in lines.items():
        (root / f"{kind}.txt").write_text("\n".join(entries))
    from metaprompts.tasks.pose import COCO_JOINTS

    category = {"id": 1, "name": "person", "keypoints": list(COCO_JOINTS), "skeleton": [[1, 2]]}
    content = {"images": images, "annotations": people, "categories": [category]}
    (root / "people.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def home(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder whose embedded models are the small ones."""
    from cli.test_train import LISTS
    from metaprompts import embedded
    from metaprompts.recipes.loader import read_recipe

    for task in SMALL:
        shutil.copytree(models / task, tmp_path / f"home/micro-{task}")
        sized = [] if task == "pose" else ["--data.image_size", "64,64", "--augment.crop_size", "64,64"]
        recipe = read_recipe(f"micro_{task}", [*SMALL[task], *sized, *LISTS[task], "--training.device", "cpu"])
        (tmp_path / f"home/micro-{task}/recipe.json").write_text(json.dumps(recipe.to_dict()))
    monkeypatch.setattr(embedded, "_home", lambda: tmp_path / "home")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"
