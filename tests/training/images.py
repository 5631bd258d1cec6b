"""Recipes for the few images of these tests."""

from metaprompts.recipes.loader import read_recipe
from small import SMALL, tiny_backbone


def made_recipe(task, images, out, *overrides):
    kind = {"depth": "depth", "segmentation": "labels"}[task]
    return read_recipe(
        f"micro_{task}",
        [
            *SMALL[task],
            *("--data.root", str(images), "--data.train", f"train_{kind}.txt", "--data.val", f"val_{kind}.txt"),
            *("--data.image_size", "64,64", "--augment.crop_size", "64,64", "--data.num_workers", "0"),
            *("--backbone.source", tiny_backbone(), "--training.report_to", "none"),
            *("--prompts.count", "4", "--refinement.steps", "2", "--training.output_dir", str(out)),
            *("--training.device", "cpu", "--training.batch_size", "2", "--training.steps", "2"),
            *overrides,
        ],
    )
