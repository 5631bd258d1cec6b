"""Fit a scale and a shift of a depth model's log depth to a few labeled images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.evaluation.dataset import EvalDataset, seen_batches
from metaprompts.evaluation.evaluate import predict
from metaprompts.metrics.depth import DEPTH_SCORES, depth_errors, in_range
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import Overrides
from metaprompts.recipes.model_recipe import load_with_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.tasks.depth import Depth
from metaprompts.training.dataloaders import Split, validation_split
from metaprompts.utils.files import write_json
from metaprompts.utils.progress import ProgressBar
from metaprompts.utils.torch_modules import eval_mode
from metaprompts.utils.wording import counted

# At most this many evenly spaced pixels of an image are used; more would not change the fit.
_PIXELS_PER_IMAGE = 50_000
# Below this standard deviation of ln(depth), about 1 %, a fitted scale would be noise.
_SMALLEST_SPREAD = 0.01
_SHOWN = ("d1", "rel", "rmse")


class LogPairs(NamedTuple):
    """The measured pixels of one image.

    Attributes:
        predicted: (P,) float64, ln of the predicted depth in meters
        target: (P,) float64, ln of the true depth in meters
    """

    predicted: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A fitted calibration: ln depth = scale * ln predicted + shift.

    Attributes:
        scale: factor of the logarithm; 1 for no change
        shift: exp(shift) is the factor of the depth
        images: number of images with measured pixels
        skipped: number of images without measured pixels
        before: mean scores of the images before calibration: d1, rel, rmse (meters)
        after: mean scores after calibration
        left_out: leave-one-out scores: each image is scored with the calibration fitted to the others; None if
            impossible
    """

    scale: float
    shift: float
    images: int
    skipped: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    left_out: Mapping[str, float] | None


def calibrate(
    model: str | Path,
    overrides: Overrides = (),
    *,
    out: str | Path,
    recipe: str | None = None,
    shift_only: bool = False,
) -> Calibration:
    """Fit a depth model's scale and shift to the validation split of a data set, and save the calibrated model.

    Least squares over ln(depth) of all measured pixels; each image has the same weight. The weights do not change: the
    two numbers are stored in config.json, task.log_scale and task.log_shift, and apply wherever the model runs.

    Args:
        model: a folder written by training, an embedded model, or a hub id
        overrides: recipe keys and their values, for example {"data.root": "photos"}; or words of a command line
        out: folder of the calibrated model, with calibration.json
        recipe: recipe name or file; None for the model's recipe.json
        shift_only: fit only one factor for all depths

    Returns:
        the calibration of this model's predictions, and the scores before and after

    Raises:
        InputError: model, recipe or data cannot be read, the model does not predict depth, no pixel is in range, or the
            predictions do not grow with the true depth
    """
    loaded, read = load_with_recipe(Path(model), recipe, overrides)
    task = loaded.task
    if not isinstance(task, Depth):
        raise InputError(f"{model} predicts {task.name}; expected a depth model")
    read.data.check_output(Path(out))
    pairs, skipped = _measured(loaded, task, read, validation_split(read))
    if not pairs:
        raise InputError(
            f"none of the {counted(skipped, 'image')} has depth between {task.min_depth_m:g} and {task.max_depth_m:g} "
            "m: check data.depth_scale with metaprompts data check"
        )
    scale, shift = fit(pairs, shift_only=shift_only)
    found = Calibration(
        scale=scale,
        shift=shift,
        images=len(pairs),
        skipped=skipped,
        before=_mean_scores(pairs, [(1.0, 0.0)] * len(pairs)),
        after=_mean_scores(pairs, [(scale, shift)] * len(pairs)),
        left_out=_left_out(pairs, shift_only=shift_only),
    )
    _save(loaded, task, read, found, Path(out))
    return found


def fit(pairs: Sequence[LogPairs], *, shift_only: bool = False) -> tuple[float, float]:
    """The scale and shift with the least squared error of target = scale * predicted + shift.

    Args:
        pairs: the images; each has the same weight
        shift_only: keep the scale at 1

    Raises:
        InputError: the scale is not positive
    """
    mean_x = _mean(each.predicted.mean() for each in pairs)
    mean_y = _mean(each.target.mean() for each in pairs)
    variance = _mean((each.predicted - mean_x).square().mean() for each in pairs)
    if shift_only or variance < _SMALLEST_SPREAD**2:
        return 1.0, mean_y - mean_x
    covariance = _mean(((each.predicted - mean_x) * (each.target - mean_y)).mean() for each in pairs)
    scale = covariance / variance
    if scale <= 0:
        raise InputError(
            f"the predicted depth does not grow with the true depth (fitted scale {scale:.3g}): check that images and "
            "depth files belong together, or pass --shift-only"
        )
    return scale, mean_y - scale * mean_x


@torch.no_grad()
def _measured(model: MetaPromptModel, task: Depth, recipe: Recipe, split: Split) -> tuple[list[LogPairs], int]:
    """The measured pixels of each image, and the number of images without any."""
    images = EvalDataset(split.samples, split.transforms, recipe.test)
    batches = seen_batches(images, batch_size=recipe.training.val_batch_size, workers=recipe.data.num_workers)
    metric = task.metric(**split.metric_kwargs, **recipe.test.metric_kwargs())
    pairs, skipped = [], 0
    with eval_mode(model), ProgressBar("predicting", len(images)) as bar:
        for batch in batches:
            target_m = batch["depth_m"]
            predicted_m = task.at_size(predict(model, batch, recipe.test), target_m.shape[-2:])
            valid = in_range(target_m, metric.min_depth_m, metric.max_depth_m)
            if metric.crop is not None:
                valid &= metric.crop(*target_m.shape[-2:])
            for predicted, target, mask in zip(predicted_m, target_m, valid, strict=True):
                if mask.any():
                    pairs.append(_log_pairs(predicted[mask].clamp_min(metric.min_depth_m), target[mask]))
                else:
                    skipped += 1
            bar.advance(len(target_m))
    return pairs, skipped


def _log_pairs(predicted_m: Tensor, target_m: Tensor) -> LogPairs:
    every = math.ceil(len(target_m) / _PIXELS_PER_IMAGE)
    return LogPairs(predicted_m[::every].double().log(), target_m[::every].double().log())


def _left_out(pairs: Sequence[LogPairs], *, shift_only: bool) -> dict[str, float] | None:
    """The scores of each image, calibrated on the other images; None if there are no others, or the fit fails."""
    if len(pairs) == 1:
        return None
    try:
        fits = [fit([*pairs[:index], *pairs[index + 1 :]], shift_only=shift_only) for index in range(len(pairs))]
    except InputError:
        return None
    return _mean_scores(pairs, fits)


def _mean_scores(pairs: Sequence[LogPairs], fits: Sequence[tuple[float, float]]) -> dict[str, float]:
    errors = [
        depth_errors((scale * each.predicted + shift).exp(), each.target.exp())
        for each, (scale, shift) in zip(pairs, fits, strict=True)
    ]
    means = dict(zip(DEPTH_SCORES, torch.stack(errors).mean(dim=0).tolist(), strict=True))
    return {name: means[name] for name in _SHOWN}


def _mean(values: Iterator[Tensor]) -> float:
    return torch.stack(list(values)).mean().item()


def _save(model: MetaPromptModel, task: Depth, recipe: Recipe, found: Calibration, out: Path) -> None:
    # The model may already be calibrated; the new calibration applies to its calibrated output.
    log_scale, log_shift = found.scale * task.log_scale, found.scale * task.log_shift + found.shift
    calibrated = replace(task, log_scale=log_scale, log_shift=log_shift)
    model.config = replace(model.config, task=calibrated)
    own = replace(recipe, task=replace(task, log_scale=1.0, log_shift=0.0))
    model.save(out, recipe=own.to_dict(), metrics=found.left_out or found.after)
    write_json(out / "calibration.json", vars(found))
