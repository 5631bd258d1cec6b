"""Put trained models into the package.

    python scripts/embed.py --backbone RUN/model --depth RUN/best ...

Everything is stored in half precision. Fails if the embedded models would be larger than 40 MB in total.
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch

from metaprompts.embedded import BACKBONE, embedded_folder
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks import TASKS
from metaprompts.utils.files import read_json

LARGEST_BYTES = 40 * 10**6


def main() -> int:
    """Embed the given models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, help="diffusers folder that `metaprompts pretrain` wrote")
    for task in TASKS:
        parser.add_argument(f"--{task}", type=Path, help="model folder that `metaprompts train` wrote")
    arguments = parser.parse_args()
    if arguments.backbone:
        target = embedded_folder(BACKBONE)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(arguments.backbone, target)
    for task in TASKS:
        if folder := getattr(arguments, task):
            embed_task_model(folder, embedded_folder(f"micro-{task}"))
    total = sum(path.stat().st_size for path in embedded_folder(".").rglob("*") if path.is_file())
    sys.stdout.write(f"embedded models: {total / 1e6:.1f} MB\n")
    return int(total > LARGEST_BYTES)


def embed_task_model(source: Path, target: Path) -> None:
    """Store a model in half precision, with its recipe, from which the folders of this machine are removed."""
    recipe = read_json(source / "recipe.json")
    recipe["data"]["root"] = None
    # Only scenes have masks of the sky, and the recipe also describes how users' images are read for evaluation.
    if "sky" in recipe["data"]:
        recipe["data"] |= {"sky": None, "sky_class": None}
    recipe["training"] |= {
        "output_dir": "runs/latest",
        "num_threads": None,
        "checkpoint_seconds": 600.0,
        "init_from": None,
    }
    recipe["backbone"]["source"] = BACKBONE
    validated = source.parent / "metrics.json"
    best = read_json(validated)["best"] if validated.is_file() else None
    MetaPromptModel.from_pretrained(source).save(target, dtype=torch.float16, recipe=recipe, metrics=best)


if __name__ == "__main__":
    sys.exit(main())
