"""The published recipes say what the paper and the released code say; the tables here are worked out by hand."""

import pytest
import torch

import metaprompts.models.released
from golden import layout, needs_golden
from metaprompts.data.class_names import ADE20K, CITYSCAPES
from metaprompts.data.config.depth import DepthData
from metaprompts.data.transforms.geometric import KittiCrop
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone.loading import build_backbone, named_config
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.dataloaders import training_split

SEGMENTATION = {
    "optimizer": (8e-5, 1e-3, 0.1, True, True, None),
    "schedule": ("poly", 1.0, 1500, 1e-6),
    "training": (80_000, None, 16),
    "prompts": (150, False, False),
}
DEPTH = {
    "optimizer": (5e-4, 0.1, 0.01, False, False, None),
    "schedule": ("poly_one_cycle", 0.9, 3e-5, 0.48),
    "training": (None, 25, 24),
    "prompts": (50, True, True),
}
POSE = {
    "optimizer": (5e-4, 0.1, 0.01, False, False, None),
    "schedule": ("step", (170 / 210, 200 / 210), 0.1, 500),
    "training": (None, 210, 64),
    "prompts": (150, False, False),
}
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
TABLE = {
    "nyu": {**DEPTH, "steps": 3, "crop": (480, 480), "working": (480, 640), "test": (2, True, "nyu", False)},
    "kitti": {**DEPTH, "steps": 3, "crop": (352, 352), "working": (352, 1216), "test": (16, True, "garg", True)},
    "ade20k": {
        **SEGMENTATION,
        **{"steps": 3, "crop": (512, 512), "working": (512, 512), "test": ((512, 341), (1.0,), False)},
    },
    "ade20k_ms": {
        **SEGMENTATION,
        **{"steps": 3, "crop": (512, 512), "working": (512, 512), "test": ((512, 341), SCALES, True)},
    },
    **{
        name: {
            **SEGMENTATION,
            **{"steps": steps, "crop": (1024, 1024), "working": (1024, 2048), "test": ((1024, 512), (1.0,), False)},
        }
        for name, steps in (("cityscapes", 3), ("mapillary", 1), ("cityscapes_mapillary", 1))
    },
    "coco_pose": {**POSE, "steps": 3, "crop": (576, 448), "working": None, "test": (True, 0.9)},
}


def stated(recipe: Recipe) -> dict[str, object]:
    """The values of a recipe, in the order of the table."""
    optimizer, schedule, training, test = recipe.optimizer, recipe.schedule, recipe.training, recipe.test
    task = recipe.task
    course = {
        "poly": (schedule.power, schedule.warmup_steps, schedule.warmup_start_factor),
        "poly_one_cycle": (schedule.power, schedule.min_lr, schedule.pct_start),
        "step": (schedule.milestones, schedule.gamma, schedule.warmup_steps),
    }[schedule.kind]
    tested = {
        "segmentation": lambda: (None if test.window is None else (test.window, test.stride), test.scales, test.flip),
        "depth": lambda: (test.num_windows, test.flip, test.crop, test.kitti_crop),
        "pose": lambda: (test.flip, test.oks_nms),
    }[task.name]()
    return {
        "optimizer": (
            *(optimizer.lr, optimizer.weight_decay, optimizer.backbone_lr_mult, optimizer.decay_bias_and_norm),
            *(optimizer.attention_norms_apart, optimizer.max_grad_norm),
        ),
        "schedule": (schedule.kind, *course),
        "training": (training.steps, training.epochs, training.batch_size),
        "prompts": (recipe.prompts.count, recipe.prompts.per_step, recipe.prompts.adapter),
        "steps": recipe.refinement.steps,
        "crop": (task.crop_height, task.crop_width) if task.name == "pose" else recipe.augment.crop_size,
        "working": recipe.data.size_of_prediction(),
        "test": tested,
    }


@pytest.mark.parametrize("name", TABLE)
def test_values(name):
    recipe = read_recipe(name)
    assert stated(recipe) == TABLE[name]
    assert recipe.backbone.source == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert recipe.refinement.modulated_time
    assert recipe.rearrangement.enabled
    assert not recipe.backbone.scaled_latent


@pytest.mark.parametrize("name", ["ade20k", "cityscapes", "mapillary", "cityscapes_mapillary"])
def test_segmentation_sees_the_published_sizes(name):
    recipe = read_recipe(name)
    assert recipe.data.image_size == ((512, 2048) if name == "ade20k" else (1024, 2048))
    assert recipe.data.keep_aspect
    assert (recipe.augment.scale_range, recipe.augment.max_class_share) == ((0.5, 2.0), 0.75)
    assert recipe.task.classes == (ADE20K if name == "ade20k" else CITYSCAPES)


def test_the_second_stage_starts_from_the_first():
    first, second = read_recipe("mapillary"), read_recipe("cityscapes_mapillary")
    assert second.training.init_from == str(first.training.output_dir / "best")
    assert first.data.as_cityscapes
    assert (first.task, first.prompts, first.refinement) == (second.task, second.prompts, second.refinement)


@pytest.mark.parametrize("name", ["nyu", "kitti"])
def test_depth_keeps_the_released_cutdepth(name):
    assert read_recipe(name).augment.cutdepth == "released"


def test_pose_is_augmented_by_mmposes_standard():
    """The box was scaled by 0.75 to 1.25 only."""
    augment = read_recipe("coco_pose").augment
    assert (augment.flip, augment.half_body, augment.scale) == (0.5, 0.3, (0.5, 1.5))
    assert (augment.rotation_deg, augment.rotation) == (40.0, 0.6)


@pytest.mark.parametrize("name", ["kitti", "micro_kitti"])
def test_kitti_trains_inside_the_benchmark_crop(name, monkeypatch):
    """Random crops came from the whole image, which a test never reads."""
    monkeypatch.setattr(DepthData, "parts", lambda self, split: {split: list})
    assert training_split(read_recipe(name)).transforms[0] == KittiCrop()


@needs_golden
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("nyu", "depth_nyu_full"),
        ("kitti", "depth_nyu_full"),
        ("ade20k", "seg_ade_full"),
        ("cityscapes", "seg_cityscapes_full"),
    ],
)
def test_the_model_is_the_preset_of_the_published_checkpoint(name, file):
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in layout(file)["shapes"].items()}
        backbone = build_backbone(**named_config("sd15"))
        recipe = read_recipe(name)
        parts = {part: getattr(recipe, part) for part in ("task", "prompts", "refinement", "rearrangement")}
        ours = MetaPromptModel.from_backbone(backbone, working_size=recipe.data.size_of_prediction(), **parts)
    preset = metaprompts.models.released._config(tensors, name, "the file")
    theirs = MetaPromptModel.from_config(preset)
    for part in (*parts, "scaled_latent", "working_size"):
        assert getattr(ours.config, part) == getattr(preset, part), part
    assert _shapes(ours) == _shapes(theirs)


def _shapes(model: MetaPromptModel) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
