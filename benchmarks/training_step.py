"""Measure a training step of a recipe at Stable Diffusion's size on a CPU: its seconds and its peak memory.

    python benchmarks/training_step.py [--recipe nyu] [--what full,lora,backward] [--crop 128] [--margin-blocks 1]
        [--threads 1] [--checkpointing true] [--compile]

One image, random weights of Stable Diffusion 1.5's architecture, K and N of the recipe, float32:

    full      all weights, AdamW
    lora      low-rank changes of the UNet's attention, prompts and head, AdamW
    backward  all weights, forward and backward pass without an optimizer

Each runs in a process of its own and takes two steps; the seconds are those of the second, which has AdamW's moments in
place. "Encoder" and "UNet" are parts of the forward pass: the VAE's encoder, and the K steps of the UNet. --compile
compiles the model as `training.compile` does. The peak is the process's largest resident memory, beside what it had
before the model was built and what `metaprompts memory` computes. Exits with 1 if full takes more than 16 GB or lora
more than 6 GB.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks import Pose, Segmentation
from metaprompts.training.dummy import empty_batch, stand_in_model
from metaprompts.training.memory_estimate import training_memory
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.train_step import LossModule
from metaprompts.utils.malloc import trim_malloc
from metaprompts.utils.system import peak_bytes

BOUNDS = {"full": 16e9, "lora": 6e9}
WHAT = ("full", "lora", "backward")
GIB = 2**30


def main() -> int:
    """Measure, print a line for each; 1 if one takes more than its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nyu")
    parser.add_argument("--what", default=",".join(WHAT))
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--margin-blocks", type=int, default=1, help="depth alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpointing", choices=("true", "false"), default="true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--alone", choices=WHAT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        torch.set_num_threads(options.threads)
        sys.stdout.write(
            json.dumps(measured(recipe_of(options.alone, options), with_optimizer=options.alone != "backward"))
        )
        return 0
    sys.stdout.write(
        "| what | UNet sees | forward | encoder | UNet | backward | optimizer | before the model | peak | computed |\n"
        f"|{' --- |' * 10}\n"
    )
    is_over = False
    for name in options.what.split(","):
        words = [sys.executable, __file__, *sys.argv[1:], "--alone", name]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
        sys.stdout.write(f"| {name} | {shown(found, recipe_of(name, options))} |\n")
        sys.stdout.flush()
        is_over |= found["peak"] > BOUNDS.get(name, float("inf"))
    return int(is_over)


def recipe_of(name: str, options: argparse.Namespace) -> Recipe:
    """The recipe with one image a pass."""
    task, crop = read_recipe(options.recipe).task.name, str(options.crop)
    sized = {
        "depth": ["--augment.crop_size", f"{crop},{crop}", "--task.margin_blocks", str(options.margin_blocks)],
        # A step of segmentation has two at least.
        "segmentation": ["--augment.crop_size", f"{crop},{crop}", "--training.batch_size", "2"],
        "pose": ["--task.crop_height", crop, "--task.crop_width", crop],
    }
    return read_recipe(
        options.recipe,
        [
            *("--training.device", "cpu", "--training.batch_size", "1"),
            *("--training.loss_group_size", "1", "--training.micro_batch_size", "1", "--training.batch_norm", "frozen"),
            *("--training.trainable", "lora" if name == "lora" else "full", "--training.init_from", "none"),
            *("--backbone.gradient_checkpointing", options.checkpointing),
            *("--training.compile", "true" if options.compile else "false"),
            *sized[task],
        ],
    )


def measured(recipe: Recipe, *, with_optimizer: bool) -> dict[str, Any]:
    """Take two steps; seconds of the second by part, and resident memory in bytes before the model and at the peak."""
    before = peak_bytes()
    torch.manual_seed(0)
    model = stand_in_model(recipe)
    trim_malloc(model)
    optimizer = make_optimizer(model, recipe.optimizer) if with_optimizer else None
    batch, one_pass = full_batch(recipe), LossModule(model)
    if recipe.training.compile:
        # Compiled code has no place for clocks between its parts.
        one_pass.compile()
        clocks = {}
    else:
        clocks = {"encoder": Clock(model.latent_encoder), "unet": Clock(model.unet)}
    seconds: dict[str, float] = {}
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        for clock in clocks.values():
            clock.seconds = 0.0
        started = time.perf_counter()
        loss = torch.stack(list(one_pass(batch).values())).sum()
        forward = time.perf_counter()
        # Before the backward pass, which calls the UNet's layers again.
        seconds = {name: clock.seconds for name, clock in clocks.items()}
        loss.backward()
        backward = time.perf_counter()
        if optimizer is not None:
            optimizer.step()
        done = time.perf_counter()
        seconds |= {"forward": forward - started, "backward": backward - forward, "optimizer": done - backward}
    return {**seconds, "before": before, "peak": peak_bytes(), "optimizes": with_optimizer}


class Clock:
    """Sums the seconds of a module's forward passes.

    Args:
        module: the module
    """

    def __init__(self, module: nn.Module) -> None:
        self.seconds = self._started = 0.0
        module.register_forward_pre_hook(self._start)
        module.register_forward_hook(self._stop)

    def _start(self, *_: object) -> None:
        self._started = time.perf_counter()

    def _stop(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


def full_batch(recipe: Recipe) -> dict[str, Tensor]:
    """An image and its targets, all at random."""
    batch = empty_batch(recipe, 1)
    batch["image"] = torch.rand_like(batch["image"])
    if isinstance(recipe.task, Segmentation):
        batch["labels"] = torch.randint_like(batch["labels"], len(recipe.task.classes))
    elif isinstance(recipe.task, Pose):
        # Joints within the image, all visible.
        batch["keypoints"] = torch.cat(
            [torch.rand(1, len(recipe.task.joints), 2) * 100, torch.ones(1, len(recipe.task.joints), 1)], -1
        )
    else:
        batch["depth_m"] = 1 + 8 * torch.rand_like(batch["depth_m"])
    return batch


def shown(found: dict[str, Any], recipe: Recipe) -> str:
    """The cells of one line."""
    computed = training_memory(recipe)
    # Without an optimizer there are no moments.
    total = computed.peak.total - (0 if found["optimizes"] else computed.peak.moments)
    height, width = computed.size
    parts = ("forward", "encoder", "unet", "backward", "optimizer")
    seconds = [f"{found[part]:.1f} s" if part in found else "-" for part in parts]
    sizes = [f"{value / GIB:.2f} GiB" for value in (found["before"], found["peak"], total)]
    return " | ".join([f"{height}x{width}", *seconds, *sizes])


if __name__ == "__main__":
    sys.exit(main())
