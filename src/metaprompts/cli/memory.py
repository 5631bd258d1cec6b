"""``metaprompts memory``."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.cli.recipe_keys import WithRecipeKeys
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.schema import Range
from metaprompts.utils.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

    from metaprompts.recipes.recipe import Recipe
    from metaprompts.training.memory_estimate import TrainingMemory

_UNITS = {"GiB": 2**30, "MiB": 2**20}
_PARTS = {
    "weights": ("weights", "float32, including frozen encoders"),
    "gradients": ("gradients", "float32, only those held at the peak"),
    "moments": ("optimizer", "AdamW's two moments"),
    "average": ("average", "exponential moving average of the weights"),
    "exchange": ("exchange", "a copy of the gradients, exchanged between processes"),
    "copies": ("weight copies", "in the precision of the forward pass"),
    "activations": ("activations", "kept by the forward pass for the backward pass, including the losses"),
    "work": ("temporary", "tensors of the encoder, gradients in flight, recomputed activations"),
}
# An easily scaled reference: about a third of an A100's bf16 peak.
_TFLOPS = 100
_ONLY_WHERE_USED = ("average", "exchange", "copies")


@dataclass(frozen=True, kw_only=True)
class Memory(WithRecipeKeys):
    """Compute the peak memory of a training run, split by part, and the operations per step.

    Nothing is allocated or downloaded: a step runs on fake tensors that have only a shape. Every key of the recipe can
    be changed as well: metaprompts memory RECIPE --help lists them. The architecture is read from backbone.source if
    that is a diffusers folder, micro, random:NAME or the hub id of an original Stable Diffusion (1.4 to XL); otherwise
    Stable Diffusion 1.5 is assumed. Not counted: temporary memory of operations, allocator fragmentation, and PyTorch's
    own memory (a GPU context takes about half a GiB); so leave a tenth free. docs/memory.md compares the result with
    measurements.
    """

    recipes: tuple[str, ...] = argument("RECIPE", names=recipe_names)
    """.toml files, recipe.json of runs, or names of shipped recipes."""
    batch_size: str | None = option(None, metavar="N")
    """Images per forward pass. Short for --training.micro_batch_size."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Precision of the forward pass. Short for --training.precision."""
    trainable: Literal["full", "lora", "prompts"] | None = None
    """Trainable parameters. Short for --training.trainable."""
    checkpointing: Literal["true", "false"] | None = None
    """Recompute the UNet's layers to save memory. Short for --backbone.gradient_checkpointing."""
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
        short = {
            "training.micro_batch_size": self.batch_size,
            "training.precision": self.precision,
            "training.trainable": self.trainable,
            "backbone.gradient_checkpointing": self.checkpointing,
        }
        given = [f"--{key}={value}" for key, value in short.items() if value is not None]
        overrides = (*self.overrides, *given, "--training.init_from=none")
        recipes = {name: read_recipe(name, overrides) for name in self.recipes}

        from metaprompts.training.memory_estimate import training_memory

        computed = {name: training_memory(recipe, self.processes) for name, recipe in recipes.items()}
        if self.json:
            say(f"{json.dumps({name: memory.to_dict() for name, memory in computed.items()}, indent=2)}\n")
            return 0
        from rich.console import Console

        console = Console()
        for name, memory in computed.items():
            console.print(_table(name, recipes[name], memory, self.processes))
        return 0


def _table(name: str, recipe: "Recipe", memory: "TrainingMemory", processes: int) -> "Table":
    """The memory of a run, with one row per part."""
    from rich.table import Table

    unit = "GiB" if memory.peak.total >= _UNITS["GiB"] else "MiB"
    table = Table(
        title=f"{name}: peak memory of a training step, computed",
        caption=_caption(recipe, memory, processes, unit),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("part", no_wrap=True)
    table.add_column(unit, justify="right")
    table.add_column("meaning")
    for part, (shown, meaning) in _PARTS.items():
        size = getattr(memory.peak, part)
        if size or part not in _ONLY_WHERE_USED:
            table.add_row(shown, _in(unit, size), meaning)
    table.add_section()
    table.add_row("total", _in(unit, memory.peak.total), f"peak, in the {memory.phase}", style="bold")
    return table


def _caption(recipe: "Recipe", memory: "TrainingMemory", processes: int, unit: str) -> str:
    settings = recipe.training
    height, width = memory.size
    second = "" if recipe.backbone.second is None else f" and {recipe.backbone.second}"
    share = f", one of {processes} processes" if processes > 1 else ""
    checkpointing = "with" if recipe.backbone.gradient_checkpointing else "without"
    images, passes = counted(memory.images, "image"), counted(memory.passes, "pass", "passes")
    # Training such a pass would raise an error.
    lacks_statistics = settings.batch_norm == "local" and memory.images < recipe.task.smallest_pass
    norm = "; a pass of one image needs --training.batch_norm frozen" if lacks_statistics else ""
    return (
        f"{images} of {height}x{width} per pass, {passes} per step{share}; {settings.precision}, {checkpointing} "
        f"checkpointing{norm}\n"
        f"trained: {settings.trainable}, {memory.trained / 1e6:.1f} of {memory.parameters / 1e6:.1f} M parameters; "
        f"backbone: {memory.architecture}{second}\n"
        f"the forward pass keeps {_in(unit, memory.kept)} {unit}; leave a tenth free for memory that is not counted\n"
        f"a step computes {memory.flops / 1e12:.3g} TFLOP: 1,000 steps take "
        f"{1000 * memory.flops / (_TFLOPS * 1e12) / 3600:.2g} hours on a GPU that sustains {_TFLOPS} TFLOP/s"
    )


def _in(unit: str, size: int) -> str:
    return f"{size / _UNITS[unit]:.2f}"
