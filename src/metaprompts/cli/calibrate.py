"""``metaprompts calibrate``."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.cli.recipe_keys import WithModelRecipeKeys
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.utils.wording import counted, with_unit

if TYPE_CHECKING:
    from metaprompts.engines.calibrate import Calibration


@dataclass(frozen=True, kw_only=True)
class Calibrate(WithModelRecipeKeys):
    """Fit a depth model to your camera with a few labeled images, without training.

    Fits two numbers, scale and shift of the logarithm of depth, to the validation split (data.val) of a data set. Ten
    images are usually enough. The calibrated model is saved in a new folder that every command reads; its weights do
    not change.

    Every key of the recipe can be changed: metaprompts calibrate MODEL --help lists them. The most common keys:
      --data.root DIR            folder of the images
      --data.val LIST            lines of an image and its depth file, relative to DIR
      --data.depth_scale N       divisor of the stored depth, for example 1000 for millimeters
    """

    model: Path = argument("MODEL", names=embedded_models)
    """A depth model: a folder written by training (best/ or last/), or the embedded model micro-depth."""
    out: Path = option(Path("calibrated"), metavar="DIR")
    """Folder of the calibrated model."""
    shift_only: bool = False
    """Fit only one factor for all depths; safer with very few images, or if all distances are similar."""
    steps: bool = False
    """Calibrate the number of steps (predict --steps auto) instead of depth, for a model of any task that was trained
    with training.step_decay: find the largest disagreement of two successive refinement steps at which stopping costs
    at most 0.5 % of the main score."""

    def run(self) -> int:
        """Calibrate."""
        from metaprompts.utils.locks import writing_into

        if self.steps and self.shift_only:
            raise InputError("--shift-only applies only to depth, not to --steps: omit one of them")
        with writing_into(self.out, "calibrate"):
            say(self._calibrate_steps() if self.steps else self._calibrate_depth())
        return 0

    def _calibrate_depth(self) -> str:
        from metaprompts.engines.calibrate import calibrate

        found = calibrate(self.model, self.overrides, out=self.out, recipe=self.recipe, shift_only=self.shift_only)
        return f"{_table(found)}calibrated model in {self.out}\n"

    def _calibrate_steps(self) -> str:
        from metaprompts.engines.calibrate_steps import calibrate_steps

        found = calibrate_steps(self.model, self.overrides, out=self.out, recipe=self.recipe)
        used = ", ".join(f"{counted(count, 'image')} with {steps} steps" for steps, count in found.step_counts.items())
        metric = with_unit(found.metric)
        return (
            f"{metric} {found.adaptive:.4f} with --steps auto ({used}), {found.all_steps:.4f} with all steps\n"
            f"tolerance {found.tolerance:g}; calibrated model in {self.out}\n"
        )


def _table(found: "Calibration") -> str:
    columns = {"before": found.before, "calibrated": found.after, "each image left out": found.left_out}
    shown = {name: scores for name, scores in columns.items() if scores is not None}
    lines = ["".join(["".ljust(8), *(name.rjust(21) for name in shown)])]
    for metric in found.before:
        lines.append("".join([with_unit(metric).ljust(8), *(f"{scores[metric]:21.4f}" for scores in shown.values())]))
    skipped = f", {found.skipped} without depth in range" if found.skipped else ""
    power = "depth" if found.scale == 1 else f"depth^{found.scale:.4g}"
    lines.append(f"{counted(found.images, 'image')}{skipped}: calibrated depth = {math.exp(found.shift):.4g} * {power}")
    return "\n".join(lines) + "\n"
