import json
from functools import cache

import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.modules.backbone.loading import named_config
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.dummy import empty_batch, stand_in_model
from metaprompts.training.memory_estimate import moment_bytes, pass_bytes, training_memory

# One layer a level: a pass of a few hundred operations.
UNET = named_config("micro")["unet"] | {
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [32, 64, 64],
    "attention_head_dim": [2, 4, 4],
}
SMALL = [
    *("--refinement.steps", "1", "--prompts.count", "4", "--training.batch_size", "4", "--training.device", "cpu"),
]
SIZES = {
    "segmentation": ["--augment.crop_size", "64,64", "--task.width", "16"],
    "depth": ["--augment.crop_size", "64,64", "--task.filters", "4", "--task.width", "8"],
    "pose": ["--task.crop_height", "64", "--task.crop_width", "64", "--task.filters", "8"],
}
CHECKPOINTING = ["--backbone.gradient_checkpointing", "true"]


@pytest.fixture(scope="module")
def recipe_of(tmp_path_factory):
    """Makes a small recipe of a task, changed by words."""
    folder = tmp_path_factory.mktemp("backbone")
    for part, config in (("unet", UNET), ("vae", named_config("micro")["vae"])):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config))
    source = ["--backbone.source", str(folder)]
    return lambda task, *words: read_recipe(f"micro_{task}", [*SMALL, *SIZES[task], *source, *words])


@pytest.fixture(scope="module")
def memory_of(recipe_of):
    """Computes the memory of a small recipe, each once."""
    return cache(lambda task, *words, processes=1: training_memory(recipe_of(task, *words), processes))


def real_batch(recipe, images):
    batch = empty_batch(recipe, images)
    generator = torch.Generator().manual_seed(0)
    batch["image"].uniform_(generator=generator)
    if "labels" in batch:
        labels = batch["labels"]
        labels.copy_(torch.arange(labels.numel()).reshape(labels.shape) % len(recipe.task.classes))
    if "depth_m" in batch:
        batch["depth_m"].uniform_(1, 9, generator=generator)
    if "keypoints" in batch:
        batch["keypoints"].uniform_(1, 60, generator=generator)
    return batch


@pytest.mark.parametrize(
    ("task", "words"),
    [
        pytest.param("segmentation", [], marks=pytest.mark.slow),
        pytest.param("depth", CHECKPOINTING, marks=pytest.mark.slow),
        pytest.param("depth", ["--training.micro_batch_size", "2", "--refinement.steps", "2"], marks=pytest.mark.slow),
        ("pose", ["--training.trainable", "lora"]),
    ],
)
def test_computed_bytes_are_those_of_real_tensors(recipe_of, memory_of, task, words):
    recipe = recipe_of(task, *words)
    computed = memory_of(task, *words)
    torch.manual_seed(0)
    model = stand_in_model(recipe)
    batch = real_batch(recipe, computed.images)
    real, kept = pass_bytes(model, recipe, batch, earlier_gradients=computed.passes > 1)
    assert computed.kept == kept > 0
    assert computed.phase == real.peak_phase
    parts = computed.peak
    assert (parts.copies, parts.activations, parts.work) == tuple(
        real.peak.get(part, 0) for part in ("copies", "activations", "work")
    )
    gradients = sum(each.grad.nbytes for each in model.parameters() if each.grad is not None)
    assert parts.gradients <= gradients == 4 * computed.trained


@pytest.mark.slow
def test_half_precision_is_that_of_real_tensors_and_takes_less(recipe_of, memory_of):
    """Up to a thousandth: without numbers the statistics of norms are counted in the precision of what they are of."""
    half = ["--training.precision", "bf16"]
    recipe, computed = recipe_of("depth", *half), memory_of("depth", *half)
    _, kept = pass_bytes(stand_in_model(recipe), recipe, real_batch(recipe, computed.images))
    assert computed.kept == pytest.approx(kept, rel=1e-2)
    assert computed.peak.copies > 0
    single = memory_of("depth")
    assert single.peak.copies == 0
    assert computed.peak.activations < 0.75 * single.peak.activations
    on_gpu = memory_of("depth", *half, "--training.device", "cuda")
    assert computed.peak.activations < on_gpu.peak.activations < single.peak.activations


@pytest.mark.slow
def test_what_is_frozen_has_neither_gradients_nor_moments(memory_of):
    full, lora, prompts = (
        memory_of("pose", "--training.micro_batch_size", "2", "--training.trainable", kind)
        for kind in ("full", "lora", "prompts")
    )
    for memory in (full, lora, prompts):
        assert memory.passes == 2
        assert memory.peak.gradients == 4 * memory.trained
        assert memory.peak.moments == 8 * memory.trained
        parts = {name: size for name, size in memory.to_dict()["peak"].items() if name != "total"}
        assert memory.peak.total == sum(parts.values()) == memory.to_dict()["peak"]["total"]
    assert prompts.trained < lora.trained < full.trained / 4
    assert full.parameters == prompts.parameters
    # By hand: two attentions in each of four layers, queries, keys, values and outputs, from and to its width, but
    # the second's keys and values come from the prompts.
    rank, context = 8, 64
    ours = sum(rank * (6 * (width + width) + 2 * (context + width)) for width in (32, 64, 32, 32))
    assert lora.trained - prompts.trained == lora.parameters - full.parameters == ours


@pytest.mark.slow
def test_checkpointing_keeps_less(memory_of):
    plain, checkpointed = memory_of("depth"), memory_of("depth", *CHECKPOINTING)
    assert checkpointed.kept < plain.kept
    assert checkpointed.peak.total < plain.peak.total
    assert checkpointed.peak.weights == plain.peak.weights


@pytest.mark.slow
def test_processes_share_images_and_with_fsdp_moments(memory_of):
    words = ["--training.ema_decay", "0.9"]
    alone = memory_of("pose", "--training.micro_batch_size", "2", "--training.trainable", "full")
    both = memory_of("pose", *words, processes=2)
    split = memory_of("pose", *words, "--training.fsdp", "true", processes=2)
    assert [each.images for each in (alone, both, split)] == [2, 2, 2]
    assert alone.peak.average == alone.peak.exchange == split.peak.exchange == 0
    assert both.peak.exchange == both.peak.average == 4 * both.trained
    assert both.peak.weights == alone.peak.weights
    # The fullest moment is near the end of the backward pass.
    assert 0.9 * 4 * both.trained < both.peak.gradients <= 4 * both.trained
    assert (split.peak.moments, split.peak.average) == (both.peak.moments // 2, both.peak.average // 2)
    assert split.peak.weights == both.peak.weights + 4 * both.trained // 2


def test_moments_of_8_bit():
    large, small = torch.empty(64, 100), torch.empty(4095)
    assert moment_bytes(large, "adamw") == 8 * 6400
    assert moment_bytes(large, "adamw_8bit") == 2 * 6400 + 2 * 25 * 4
    assert moment_bytes(small, "adamw_8bit") == 8 * 4095


def test_a_step_that_cannot_be_shared_is_reported(recipe_of):
    with pytest.raises(InputError, match="cannot be split over 3 processes"):
        training_memory(recipe_of("depth", "--training.fit_processes", "false"), processes=3)
    with pytest.raises(InputError, match=r"not a multiple of training.micro_batch_size 3: choose a divisor"):
        training_memory(recipe_of("depth", "--training.fit_processes", "false", "--training.micro_batch_size", "3"))


@pytest.mark.slow
def test_a_pass_of_one_image_is_counted_though_batch_norm_could_not_train_so(recipe_of):
    own, frozen = (
        training_memory(recipe_of("segmentation", "--training.micro_batch_size", "1", "--training.batch_norm", norm))
        for norm in ("local", "frozen")
    )
    assert own == frozen
    assert own.images == 1
