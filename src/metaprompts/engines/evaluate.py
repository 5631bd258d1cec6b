"""Score a model, as executed by an engine, on the validation split of a recipe."""

import pickle
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from metaprompts.analysis.worst_images import write_worst
from metaprompts.data.loading import stack
from metaprompts.engines.factory import Approximation
from metaprompts.engines.loading import with_engine
from metaprompts.engines.quantization.calibration import DEFAULT, Calibration, CalibrationOptions, spread
from metaprompts.errors import InputError
from metaprompts.evaluation.dataset import EvalDataset
from metaprompts.evaluation.evaluate import evaluate as evaluate_batches
from metaprompts.evaluation.resumable import Evaluation, Records, evaluate_split, group_records
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import Overrides
from metaprompts.recipes.model_recipe import load_with_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.dataloaders import Split, validation_split
from metaprompts.training.label_mismatch import show_missing_classes, warn_below_random
from metaprompts.utils.distributed_env import is_first_process, local_device, process_count, processes
from metaprompts.utils.fingerprint import tensors_fingerprint
from metaprompts.utils.model_workers import in_chunks, in_model_workers, worker_device
from metaprompts.utils.progress import ProgressBar, report_lines
from metaprompts.utils.schema import to_dict
from metaprompts.utils.wording import counted


def evaluate(
    model: str | Path,
    overrides: Overrides = (),
    *,
    recipe: str | None = None,
    out: str | Path | None = None,
    engine: str = "plain",
    precision: str = "fp32",
    resume: Literal["auto", "never"] = "auto",
    worst: int = 8,
    workers: int = 1,
    calibration: CalibrationOptions = DEFAULT,
    steps: int | Literal["auto"] | None = None,
) -> dict[str, Any]:
    """Score a trained model on the validation split of a data set, and write the scores of every image.

    Args:
        model: a folder written by training, an embedded model, or a hub id
        overrides: recipe keys and their values, for example {"data.root": "photos"}; or words of a command line
        recipe: recipe name or file; None for the model's recipe.json
        out: folder for metrics.json, per_image.jsonl, evaluation.json, worst.jpg and, for segmentation, the confusion
            matrix; by default see `evaluation_folder`
        engine: "plain", as in training, or an engine of `open_engine`
        precision: precision of the engine
        resume: "auto": predict only images that no earlier evaluation in the folder has predicted; "never": all
        worst: number of images in worst.jpg
        workers: number of processes, each with a copy of the model; the scores do not depend on it
        calibration: images on which precision w8a8 is calibrated; by default images of the validation split
        steps: refinement steps of an engine other than plain, see `Approximation`; None for all

    Returns:
        the scores by name: fractions of 1, meters or degrees; None if undefined

    Raises:
        InputError: model, recipe or data cannot be read, or do not match; or a worker process was killed
    """
    if workers > 1 and process_count() > 1:
        raise InputError(f"got {workers} workers in a process of torchrun: give --workers or use torchrun, not both")
    calibration.check(precision)
    source = Path(model)
    loaded, read = load_with_recipe(source, recipe, overrides, local_device)
    out = Path(out or evaluation_folder(source))
    read.data.check_output(out)
    split = validation_split(read)
    if read.data.val_share is not None and is_first_process():
        report_lines(
            [
                f"data.val {read.data.val_share:g}: scoring {counted(len(split.samples), 'sample')} held out of the "
                f"training images by training.seed {read.training.seed}"
            ]
        )
    labels = read.task.check_samples(split.stored, "validation split", warns=is_first_process())
    if labels is not None:
        show_missing_classes(labels)
    predictor, evaluation = _with_engine(loaded, read, split, out, engine, precision, calibration, steps)
    if predictor is not loaded:
        report_lines([str(predictor)])
    request = pickle.dumps((source, overrides, recipe, out, engine, precision, calibration, steps))

    def predict_groups(groups: list[list[int]]) -> Records:
        jobs = [(request, chunk) for chunk in in_chunks(groups, workers)]
        for records in in_model_workers(_records_of_groups, jobs, workers):
            yield from records

    with (
        processes() as together,
        ProgressBar("evaluating", len(evaluation.images), quiet=together.rank > 0) as bar,
    ):
        scores = evaluate_split(
            predictor,
            evaluation,
            restart=resume == "never",
            processes=together,
            predict_groups=predict_groups if workers > 1 else None,
            on_done=bar.advance,
            on_earlier=bar.resumed,
        )
    if together.rank == 0:
        write_worst(predictor, evaluation, worst)
        if labels is not None:
            warn_below_random(labels, scores)
    return scores


def evaluation_folder(model: Path) -> Path:
    """MODEL/evaluation; for a model that is not a local folder, evaluation-NAME in the working directory."""
    return model / "evaluation" if model.is_dir() else Path(f"evaluation-{model.name}")


def _records_of_groups(request: bytes, groups: list[list[int]]) -> list[list[dict[str, Any]]]:
    """The records of groups of samples, in a worker process."""
    predictor, evaluation = _opened(request)
    return list(group_records(predictor, evaluation, groups))


@lru_cache(maxsize=1)
def _opened(request: bytes) -> tuple[Any, Evaluation]:
    """The predictor and the evaluation of a worker process; loaded once."""
    source, overrides, recipe, *how = pickle.loads(request)
    model, read = load_with_recipe(source, recipe, overrides, worker_device)
    return _with_engine(model, read, validation_split(read), *how)


def _with_engine(
    model: MetaPromptModel,
    recipe: Recipe,
    split: Split,
    out: Path,
    engine: str,
    precision: str,
    options: CalibrationOptions,
    steps: int | Literal["auto"] | None,
) -> tuple[Any, Evaluation]:
    """The model as the engine executes it, and what to evaluate."""
    images = EvalDataset(split.samples, split.transforms, recipe.test)
    calibration = options.calibration(precision, partial(_own_images, images, recipe, split))
    data: dict[str, Any] = to_dict(recipe.data.resolved())
    what: dict[str, Any] = {
        "weights": tensors_fingerprint(sorted(model.state_dict().items())),
        "task": model.config.to_dict()["task"],
        "test": to_dict(recipe.test),
        "data": {key: value for key, value in data.items() if key not in ("num_workers", "cache")},
        "samples": len(images),
    }
    if (engine, precision) != ("plain", "fp32"):
        what |= {"engine": engine, "precision": precision}
    if steps is not None:
        what["steps"] = steps if steps != "auto" else f"auto, tolerance {model.config.step_tolerance}"
    if calibration is not None:
        what["calibration"] = calibration.to_dict()
    evaluation = Evaluation(
        images=images,
        test=recipe.test,
        metric_kwargs=split.metric_kwargs,
        out=out,
        what=what,
        root=recipe.data.names_from("val"),
        group=recipe.training.val_batch_size,
        workers=recipe.data.num_workers,
    )
    less = Approximation(steps=steps)
    return with_engine(model, engine, precision, less, images=len(images), calibration=calibration), evaluation


def _own_images(images: EvalDataset, recipe: Recipe, split: Split, samples: int) -> Calibration:
    """Images of the split, evenly spread, predicted as in the evaluation."""
    batches = [stack([images[place].tensors]) for place in spread(range(len(images)), samples)]

    def predict(model: Any) -> None:
        evaluate_batches(model, batches, metric_kwargs=split.metric_kwargs, test=recipe.test)

    return Calibration(
        source=f"{counted(len(batches), 'sample')} of the validation split",
        samples=samples,
        fingerprint=tensors_fingerprint((str(place), each["image"]) for place, each in enumerate(batches)),
        predict=predict,
    )
