"""The memory of a run, as a table with one row per part."""

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


def memory_table(name: str, recipe: Recipe, memory: TrainingMemory, processes: int) -> Table:
    """Format the memory of a run as a table with one row per part.

    Args:
        name: the recipe's name
        recipe: the recipe with all overrides
        memory: the computed memory
        processes: number of processes that share a step
    """
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


def _caption(recipe: Recipe, memory: TrainingMemory, processes: int, unit: str) -> str:
    settings = recipe.training
    height, width = memory.size
    second = "" if recipe.backbone.second is None else f" and {recipe.backbone.second}"
    share = f", one of {processes} processes" if processes > 1 else ""
    checkpointing = "with" if recipe.backbone.gradient_checkpointing else "without"
    images, passes = _counted(memory.images, "image"), _counted(memory.passes, "pass")
    # Training such a pass would raise an error.
    norm = "; a pass of one image needs --training.batch_norm frozen" if _lacks_statistics(recipe, memory) else ""
    return (
        f"{images} of {height}x{width} per pass, {passes} per step{share}; {settings.precision}, {checkpointing} "
        f"checkpointing{norm}\n"
        f"trained: {settings.trainable}, {memory.trained / 1e6:.1f} of {memory.parameters / 1e6:.1f} M parameters; "
        f"backbone: {memory.architecture}{second}\n"
        f"the forward pass keeps {_in(unit, memory.kept)} {unit}; leave a tenth free for memory that is not counted\n"
        f"a step computes {memory.flops / 1e12:.3g} TFLOP: 1,000 steps take "
        f"{1000 * memory.flops / (_TFLOPS * 1e12) / 3600:.2g} hours on a GPU that sustains {_TFLOPS} TFLOP/s"
    )


def _lacks_statistics(recipe: Recipe, memory: TrainingMemory) -> bool:
    is_own = recipe.training.batch_norm == "local"
    return is_own and memory.images < recipe.task.smallest_pass


def _counted(count: int, word: str) -> str:
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{count} {word if count == 1 else plural}"


def _in(unit: str, size: int) -> str:
    return f"{size / _UNITS[unit]:.2f}"
