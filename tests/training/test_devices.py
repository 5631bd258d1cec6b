"""A training step on the GPU computes what it computes on the CPU."""

import math

import pytest
import torch
from torch import distributed

from devices import DEVICES, on_gpu
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from metaprompts.training.dummy import empty_batch, stand_in_model
from metaprompts.training.fsdp import shard
from metaprompts.training.loop import train
from metaprompts.training.memory_estimate import training_memory
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.train_step import LossModule
from training.images import made_recipe

# Relative difference of the first loss from that in fp32 on the CPU.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.02}
LORA = ("--training.trainable", "lora")
CHECKPOINTING = ("--backbone.gradient_checkpointing", "true")


def losses(images, folder, device, *words):
    """The loss of each step."""
    import json

    train(made_recipe("depth", images, folder, "--training.steps", "3", *words, "--training.device", device))
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [line["total"] for line in map(json.loads, lines) if "total" in line]


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory):
    return losses(images, tmp_path_factory.mktemp("expected"), "cpu")


@pytest.mark.parametrize(
    ("precision", "words"),
    [
        pytest.param("fp32", (), marks=pytest.mark.slow),
        pytest.param("bf16", (), marks=pytest.mark.slow),
        ("fp16", ()),
        ("fp32", LORA),
        ("bf16", CHECKPOINTING),
        ("fp16", ("--optimizer.kind", "adamw_8bit")),
        ("bf16", ("--training.compile", "true")),
        ("bf16", ("--training.ema_decay", "0.9", "--training.step_decay", "0.8")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value).replace("--", "") or "plain",
)
@pytest.mark.parametrize("device", DEVICES)
def test_a_training_in_each_precision(images, expected, tmp_path, device, precision, words):
    if device == "cpu" and (precision == "fp16" or "--training.compile" in words or words in (LORA, CHECKPOINTING)):
        pytest.skip("for GPUs, or tested elsewhere on the CPU")
    if "adamw_8bit" in words:
        pytest.importorskip("bitsandbytes")
    found = losses(images, tmp_path, device, "--training.precision", precision, *words)
    assert len(found) == len(expected)
    assert all(map(math.isfinite, found))
    # Later losses also depend on the optimizer's rounding. With step_decay, earlier steps are added to the total.
    if "--training.step_decay" not in words:
        assert found[0] == pytest.approx(expected[0], rel=TOLERANCES[precision])


@pytest.mark.parametrize("device", DEVICES)
def test_one_sharded_process_has_the_gradients_of_an_unsharded_one(images, tmp_path, device):
    """FSDP over NCCL on a GPU, over gloo on a CPU."""
    recipe = made_recipe("depth", images, tmp_path)
    batch = {"image": torch.rand(2, 3, 64, 64), "depth_m": 1 + 8 * torch.rand(2, 64, 64)}

    def gradients(*, sharded: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = build_model(recipe).to(device).train()
        if sharded:
            shard(model, device)
        sum(LossModule(model)(batch).values()).backward()
        grads = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        return {name: (each.full_tensor() if sharded else each).cpu() for name, each in grads.items()}

    plain = gradients(sharded=False)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        found = gradients(sharded=True)
    finally:
        distributed.destroy_process_group()
    assert found.keys() == plain.keys()
    for name, gradient in plain.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max() + 1e-9)), name


FULL_WIDTH = [("nyu", "1"), ("ade20k", "2"), ("coco_pose", "2")]


@pytest.mark.parametrize(("preset", "images_per_pass"), [pytest.param(*each, marks=on_gpu) for each in FULL_WIDTH])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_on_the_gpu_is_within_a_tenth_of_the_computed_memory(preset, images_per_pass, precision):
    """At full width. Only tensors are computed; the allocator rounds sizes up, and cuDNN needs a workspace."""
    one_pass = ["--training.micro_batch_size", images_per_pass, "--training.batch_size", images_per_pass]
    recipe = read_recipe(
        preset,
        [
            *one_pass,
            *("--training.loss_group_size", images_per_pass, "--training.batch_norm", "frozen"),
            *("--training.precision", precision, "--training.init_from", "none", *CHECKPOINTING),
        ],
    )
    computed = training_memory(recipe).peak.total
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model = stand_in_model(recipe).cuda()
    optimizer = make_optimizer(model, recipe.optimizer)
    batch = empty_batch(recipe, int(images_per_pass))
    batch = {name: torch.ones_like(tensor) for name, tensor in batch.items()}
    autocast = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")
    one = LossModule(model, autocast=lambda: autocast)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        sum(one(batch).values()).backward()
        optimizer.step()
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(computed, rel=0.1)
