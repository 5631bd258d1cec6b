"""``metaprompts memory``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from metaprompts.cli.console import say
from metaprompts.cli.overrides import check_override_keys, take_flag, take_options
from metaprompts.errors import InputError

_USAGE = """usage: metaprompts memory RECIPE [RECIPE ...] [--section.key value ...]

Compute a run's peak memory by part, and the number of operations per step. Nothing is allocated or downloaded: a step
runs on fake tensors that have only a shape. RECIPE is a .toml file, a run's recipe.json, or one of:
{recipes}.

  --batch-size N          images per pass through the model         = --training.micro_batch_size N
  --precision P           precision of passes: fp32, bf16 or fp16      = --training.precision P
  --trainable T           full, lora or prompts                        = --training.trainable T
  --checkpointing true    recompute the UNet's layers to save memory   = --backbone.gradient_checkpointing true
  --processes N           torchrun processes that share a step; the memory shown is for one process. Each holds all
                          weights, or with --training.fsdp true a part of them
  --json                  print JSON with sizes in bytes

Every other recipe key can be changed as well; metaprompts train RECIPE --help lists them. The backbone is assumed to be
Stable Diffusion 1.5, unless its source is a diffusers folder, micro or random:NAME. Not counted: temporary memory of
operations, allocator fragmentation, and PyTorch's own memory (a GPU context takes about half a GiB); so leave a tenth
free. docs/memory.md compares it with measurements.
"""

_SHORT = {
    "--batch-size": "--training.micro_batch_size",
    "--precision": "--training.precision",
    "--trainable": "--training.trainable",
    "--checkpointing": "--backbone.gradient_checkpointing",
}
_OPTIONS = (*_SHORT, "--processes")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Compute how much memory a run takes: metaprompts memory RECIPE [--section.key value ...]."""

    recipes: tuple[str, ...]
    """.toml files, or names of shipped recipes."""
    overrides: tuple[str, ...] = ()
    """--section.key value ..."""
    processes: int = 1
    """Number of processes that share a step."""
    as_json: bool = False
    """Print bytes instead of a table."""
    wants_help: bool = False
    """Print help instead of computing."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Memory":
        """Parse the arguments of ``memory``.

        Raises:
            InputError: no recipe is given, or an option has no value or a wrong one
        """
        if "--help" in words or "-h" in words:
            return cls(recipes=(), wants_help=True)
        recipes = tuple(takewhile(lambda word: not word.startswith("-"), words))
        if not recipes:
            raise InputError("no recipe given: metaprompts memory RECIPE [--section.key value ...]; see memory --help")
        rest = list(words[len(recipes) :])
        as_json = take_flag(rest, "--json")
        options = take_options(rest, _OPTIONS)
        check_override_keys(rest, (*_OPTIONS, "--json"))
        spelled = [f"{_SHORT[name]}={value}" for name, value in options.items() if name in _SHORT and value is not None]
        processes = options["--processes"] or "1"
        if not processes.isdecimal() or len(processes) > 9 or int(processes) < 1:
            raise InputError(f"--processes is {processes}; expected a whole number, 1 to 999999999")
        return cls(recipes=recipes, overrides=(*rest, *spelled), processes=int(processes), as_json=as_json)

    def run(self) -> int:
        """Compute and print the memory, or print help."""
        if self.wants_help:
            from metaprompts.recipes.registry import recipe_names

            say(_USAGE.format(recipes=", ".join(recipe_names())))
            return 0
        from metaprompts.recipes.loader import read_recipe

        # Report a bad recipe before loading PyTorch's fake tensors, which takes seconds. The initial weights do not
        # affect memory, and random ones would not allow a frozen UNet.
        overrides = (*self.overrides, "--training.init_from=none")
        recipes = {name: read_recipe(name, overrides) for name in self.recipes}

        from metaprompts.training.memory_estimate import training_memory

        computed = {name: training_memory(recipe, self.processes) for name, recipe in recipes.items()}
        if self.as_json:
            say(f"{json.dumps({name: memory.to_dict() for name, memory in computed.items()}, indent=2)}\n")
            return 0
        from rich.console import Console

        from metaprompts.cli.memory_table import memory_table

        console = Console()
        for name, memory in computed.items():
            console.print(memory_table(name, recipes[name], memory, self.processes))
        return 0
