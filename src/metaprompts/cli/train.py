"""``metaprompts train``."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from metaprompts.cli.console import complain, say
from metaprompts.cli.overrides import check_override_keys, check_resume, take_options
from metaprompts.errors import InputError
from metaprompts.utils.wording import shown_score

# A shell's exit code for a command ended by a signal.
_SIGNALED = 128
_OPTIONS = ("--resume", "--trainable")

_USAGE = """usage: metaprompts train RECIPE [--section.key value ...]

Train on your own images. RECIPE is a .toml file or one of: {recipes}.
Every key of the recipe can be changed on the command line; the most common ones:

  --data.root DIR            folder of the images
  --data.shards DIR          or a folder written by metaprompts data shard
  --training.output_dir DIR         folder for checkpoints and metrics   (default: runs/latest)
  --data.val 0.1             hold out a share of the training images for validation; or a list or folder; or none
  --training.steps N         length of the training
  --training.init_from MODEL initialize from a trained model: a folder, a hub id, micro-segmentation, ...
  --backbone.source SOURCE   hub id, diffusers folder, .ckpt or .safetensors file, random:micro, random:sd15

  --trainable full|lora|prompts
                             the whole model; or, with a frozen backbone that is not saved, low-rank updates of its
                             attention plus all other parts, or only the other parts (short for --training.trainable)
  --resume auto|never        resume the unfinished run in training.output_dir, or start over

Several GPUs or machines: torchrun --nproc-per-node 8 -m metaprompts train RECIPE ...; training.batch_size stays
the same and is shared. If memory does not suffice: see metaprompts memory RECIPE, and training.micro_batch_size,
training.precision, backbone.gradient_checkpointing, --trainable lora.

Writes to training.output_dir: best/ and last/ (model folders; no best/ where data.val is none), metrics.json
(validations), log.jsonl (every step), curves.png, recipe.json and checkpoints/. Ctrl-C and SIGTERM stop the run after
the current step and write a checkpoint, from which --resume auto continues with the same result; with more steps it
extends a finished run.

metaprompts train RECIPE --help lists the keys of a recipe with its values. All keys of all tasks, with their defaults:

"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train on your own images: metaprompts train RECIPE [--section.key value ...]."""

    recipe: str
    """A .toml file, or the name of a shipped recipe."""
    overrides: tuple[str, ...] = ()
    """--section.key value ..."""
    resume: str | None = None
    """auto or never."""
    wants_help: bool = False
    """Print help instead of training."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Train":
        """Parse the arguments of ``train``.

        Raises:
            InputError: no recipe is given, or --resume has an invalid value
        """
        wants_help = "--help" in words or "-h" in words
        words = [word for word in words if word not in ("--help", "-h")]
        if not wants_help and (not words or words[0].startswith("-")):
            raise InputError("no recipe given: metaprompts train RECIPE [--section.key value ...]; see train --help")
        overrides = words[1:]
        options = take_options(overrides, _OPTIONS)
        check_override_keys(overrides, _OPTIONS)
        resume, trainable = options["--resume"], options["--trainable"]
        if trainable is not None:
            overrides += ["--training.trainable", trainable]
        check_resume(resume)
        recipe = words[0] if words else ""
        return cls(recipe=recipe, overrides=tuple(overrides), resume=resume, wants_help=wants_help)

    def run(self) -> int:
        """Train, or print help."""
        if self.wants_help and not self.recipe:
            from metaprompts.recipes.registry import recipe_names

            say(_USAGE.format(recipes=", ".join(recipe_names())))
            # These imports take seconds.
            sys.stdout.flush()
            from metaprompts.cli.recipe_help import print_all_keys

            print_all_keys()
            return 0
        from metaprompts.recipes.loader import check_prompt_keys, read_recipe

        recipe = read_recipe(self.recipe, self.overrides)
        if self.wants_help:
            from metaprompts.cli.recipe_help import print_recipe

            print_recipe(self.recipe, recipe)
            return 0
        check_prompt_keys(recipe, self.overrides)
        from metaprompts.cli.scored import report_undefined
        from metaprompts.training.loop import train
        from metaprompts.training.signals import TrainingStopped
        from metaprompts.utils.distributed_env import is_first_process, launch_command
        from metaprompts.utils.progress import ConsoleProgress

        try:
            history = train(recipe, ConsoleProgress(), resume=self.resume or "ask")  # type: ignore[arg-type]
        except TrainingStopped as stopped:
            command = ["metaprompts", "train", self.recipe, *self.overrides, "--resume", "auto"]
            if is_first_process():
                complain(f"{stopped}; resume with: {shlex.join([*launch_command(), *command])}\n")
            return _SIGNALED + stopped.signal
        if is_first_process():
            if not recipe.data.validates:
                say(f"model after the last step: {recipe.training.output_dir / 'last'}\n")
                return 0
            say(f"best validation: {_shown(history.best)}\nmodel: {recipe.training.output_dir / 'best'}\n")
        return report_undefined(recipe.task.name, history.best or {}) if recipe.data.validates else 0


def _shown(scores: dict[str, object] | None) -> str:
    shown = {name: value for name, value in (scores or {}).items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {shown_score(name, value)}" for name, value in shown.items())
