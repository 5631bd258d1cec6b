"""``metaprompts train``."""

import shlex
from dataclasses import dataclass
from typing import Literal

from metaprompts.cli.console import complain, say
from metaprompts.cli.options import argument
from metaprompts.cli.outcome import report_undefined
from metaprompts.cli.recipe_keys import WithRecipeKeys
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.wording import shown_score, shown_scores

# A shell's exit code for a command ended by a signal.
_SIGNALED = 128


@dataclass(frozen=True, kw_only=True)
class Train(WithRecipeKeys):
    """Train on your own images. Every key of the recipe can be changed: metaprompts train RECIPE --help lists them.

    The most common keys:
      --data.root DIR             folder of the images
      --data.shards DIR           or a folder written by metaprompts data shard
      --data.val 0.1              hold out a fraction of the training images for validation; or a list, folder or none
      --training.output_dir DIR   folder for checkpoints and metrics (default: runs/latest)
      --training.steps N          number of optimizer steps
      --training.init_from MODEL  start from a trained model: a folder, a hub id, micro-segmentation, ...
      --backbone.source SOURCE    hub id, diffusers folder, .ckpt or .safetensors file, micro, random:sd15

    Several GPUs or machines: torchrun --nproc-per-node 8 -m metaprompts train RECIPE ...; training.batch_size stays the
    same and is divided among them. If memory runs out, see metaprompts memory RECIPE, and training.micro_batch_size,
    training.precision, backbone.gradient_checkpointing, --trainable lora.

    Writes to training.output_dir: best/ and last/ (model folders; no best/ if data.val is none), metrics.json
    (validations), log.jsonl (every step), curves.png, recipe.json and checkpoints/. The progress line shows the mean
    loss of the last 50 steps. Ctrl-C and SIGTERM stop the run after the current step and write a checkpoint; --resume
    auto continues from it with the same result, and with more steps extends a finished run.
    """

    recipe: str = argument("RECIPE", names=recipe_names)
    """A .toml file, a run's recipe.json, or the name of a shipped recipe."""
    resume: Literal["auto", "never"] | None = None
    """auto: resume the unfinished run in training.output_dir; never: start over."""
    trainable: Literal["full", "lora", "prompts"] | None = None
    """The whole model; or, with a frozen backbone that is not saved, low-rank updates of its attention plus all
    other parts (lora), or only the other parts (prompts). Short for --training.trainable."""

    def run(self) -> int:
        """Train."""
        from metaprompts.recipes.loader import check_prompt_keys, read_recipe

        overrides = (*self.overrides, *([f"--training.trainable={self.trainable}"] if self.trainable else []))
        recipe = read_recipe(self.recipe, overrides)
        check_prompt_keys(recipe, overrides)
        from metaprompts.training.loop import train
        from metaprompts.training.signals import TrainingStopped
        from metaprompts.utils.distributed_env import is_first_process, launch_command
        from metaprompts.utils.progress import ConsoleProgress

        try:
            history = train(recipe, [ConsoleProgress()], resume=self.resume or "ask")
        except TrainingStopped as stopped:
            command = ["metaprompts", "train", self.recipe, *overrides, "--resume", "auto"]
            if is_first_process():
                complain(f"{stopped}; resume with: {shlex.join([*launch_command(), *command])}\n")
            return _SIGNALED + stopped.signal
        if is_first_process():
            if not recipe.data.validates:
                say(f"model after the last step: {recipe.training.output_dir / 'last'}\n")
                return 0
            say(f"best validation: {_shown(history.best)}\nmodel: {recipe.training.output_dir / 'best'}\n")
        return report_undefined(recipe.task, history.best or {}) if recipe.data.validates else 0


def _shown(scores: dict[str, object] | None) -> str:
    shown = {name: value for name, value in shown_scores(scores or {}).items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {shown_score(name, value)}" for name, value in shown.items())
