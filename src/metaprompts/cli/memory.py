"""``metaprompts memory``."""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.cli.recipe_keys import WithRecipeKeys
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.schema import Range


@dataclass(frozen=True, kw_only=True)
class Memory(WithRecipeKeys):
    """Compute the peak memory of a training run, split by part, and the operations per step.

    Nothing is allocated or downloaded: a step runs on fake tensors that have only a shape. Every key of the recipe can
    be changed as well: metaprompts memory RECIPE --help lists them. The architecture is read from backbone.source if
        that is a diffusers folder, micro, random:NAME or the hub id of an original Stable Diffusion (1.4 to XL);
        otherwise Stable Diffusion 1.5 is assumed. Not counted: temporary memory of operations, allocator fragmentation,
        and PyTorch's own memory (a GPU context takes about half a GiB); so leave a tenth free. docs/memory.md compares
        the result with measurements.
    """

    recipes: tuple[str, ...] = argument("RECIPE", names=recipe_names)
    """.toml files, recipe.json of runs, or names of shipped recipes."""
    batch_size: str | None = option(None, metavar="N")
    """Images per forward pass: --training.micro_batch_size."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Precision of the forward pass: --training.precision."""
    trainable: Literal["full", "lora", "prompts"] | None = None
    """Trainable parameters: --training.trainable."""
    checkpointing: Literal["true", "false"] | None = None
    """Recompute the UNet's layers to save memory: --backbone.gradient_checkpointing."""
    processes: Annotated[int, Range(1, 10**9)] = 1
    """torchrun processes that share a step; the memory shown is for one of them. Each process holds
    all weights, or a shard of them with --training.fsdp."""
    json: bool = False
    """Print JSON with sizes in bytes."""

    def run(self) -> int:
        """Compute and print the memory."""
        from metaprompts.recipes.loader import read_recipe

        # Report a bad recipe before loading PyTorch's fake tensors, which takes seconds. The initial weights do not
        # affect memory, and random weights would not allow a frozen UNet.
        overrides = (*self.overrides, *self._short(), "--training.init_from=none")
        recipes = {name: read_recipe(name, overrides) for name in self.recipes}

        from metaprompts.training.memory_estimate import training_memory

        computed = {name: training_memory(recipe, self.processes) for name, recipe in recipes.items()}
        if self.json:
            say(f"{json.dumps({name: memory.to_dict() for name, memory in computed.items()}, indent=2)}\n")
            return 0
        from rich.console import Console

        from metaprompts.cli.memory_table import memory_table

        console = Console()
        for name, memory in computed.items():
            console.print(memory_table(name, recipes[name], memory, self.processes))
        return 0

    def _short(self) -> list[str]:
        """The recipe keys for which the options are short forms."""
        keys = {
            "training.micro_batch_size": self.batch_size,
            "training.precision": self.precision,
            "training.trainable": self.trainable,
            "backbone.gradient_checkpointing": self.checkpointing,
        }
        return [f"--{key}={value}" for key, value in keys.items() if value is not None]
