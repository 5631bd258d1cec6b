"""Draw the images with the worst predictions next to the ground truth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from metaprompts.analysis.drawing import with_scale
from metaprompts.data.sample import Sample
from metaprompts.evaluation.dataset import stacked
from metaprompts.evaluation.evaluate import predict
from metaprompts.evaluation.records import WORST, read_records
from metaprompts.evaluation.resumable import Evaluation
from metaprompts.tasks.base import AnyTask
from metaprompts.tasks.predictions import Prediction
from metaprompts.tasks.preprocess import ModelInput
from metaprompts.tasks.protocol import Predictor
from metaprompts.utils.files import write_image
from metaprompts.utils.torch_modules import eval_mode
from metaprompts.utils.wording import with_unit
from metaprompts.visualize.sheets import contact_sheet, shrunk
from metaprompts.visualize.text import ImageArray, blank, stack_down

_CELL = (240, 320)
_LONGEST_NAME = 44


def worst_samples(task: AnyTask, records: Mapping[int, Mapping[str, Any]], count: int) -> list[tuple[int, float]]:
    """The indices of the worst samples and their scores, the worst first; one sample per image.

    Args:
        task: task that defines which metric ranks images
        records: records of an evaluation; those without a score are skipped
        count: number of images
    """
    metric = _metric(task)
    is_lower_better = task.best_by.get(metric) == "lower"
    scored = [(index, record[metric]) for index, record in records.items() if record.get(metric) is not None]
    scored.sort(key=lambda each: (-each[1] if is_lower_better else each[1], each[0]))
    first: dict[str, tuple[int, float]] = {}
    for index, score in scored:
        first.setdefault(records[index]["name"], (index, score))
    return list(first.values())[:count]


@torch.no_grad()
def write_worst(model: Predictor, evaluation: Evaluation, count: int) -> int:
    """Draw a row for each of the worst images: image, ground truth and prediction, with name and score.

    Args:
        model: the evaluated model
        evaluation: the finished evaluation; the sheet is written to its folder
        count: number of images

    Returns:
        number of images drawn; if 0, no file is written

    Raises:
        InputError: an image is no longer readable, or the file cannot be written
    """
    path = evaluation.out / WORST
    path.unlink(missing_ok=True)
    records = read_records(evaluation.out)
    chosen = worst_samples(model.task, records, count)
    if not chosen:
        return 0
    with eval_mode(model):
        drawn = [_row(model, evaluation, index) for index, _ in chosen]
    metric = with_unit(_metric(model.task))
    captions = []
    for index, score in chosen:
        name = records[index]["name"]
        shown = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
        captions.append([shown, "truth", f"prediction, {metric} {score:.4f}"])
    # A scale makes the drawn results higher than the image.
    height = max(_CELL[0], *(len(image) for images, _ in drawn for image in images))
    sheet = contact_sheet([images for images, _ in drawn], captions, cell=(height, _CELL[1]))
    legend = model.task.legend(set().union(*(entries for _, entries in drawn)), sheet.shape[1])
    write_image(path, sheet if legend is None else stack_down(sheet, legend))
    return len(chosen)


def _metric(task: AnyTask) -> str:
    """The name of the metric that ranks images."""
    return task.image_metric or next(iter(task.best_by))


def _row(model: Predictor, evaluation: Evaluation, index: int) -> tuple[list[ImageArray], set[int]]:
    """Image, ground truth and prediction, and the legend entries that they need."""
    sample = evaluation.images.sample(index)
    prediction = _predicted(model, evaluation, index, sample)
    drawn = (sample.image, model.task.draw_target(sample), model.task.draw_prediction(prediction, sample))
    # Large images are not kept in memory.
    image, *results = (shrunk(image, _CELL) for image in drawn)
    results = [with_scale(model.task, each, sample) for each in results]
    # Aligned with the results at the top.
    images = [stack_down(image, blank(len(results[0]) - len(image), image.shape[1])), *results]
    return images, model.task.legend_entries(sample) | model.task.legend_entries(prediction)


def _predicted(model: Predictor, evaluation: Evaluation, index: int, sample: Sample) -> Prediction:
    """The scored prediction, at the image's own size."""
    ((_, batch),) = stacked([evaluation.images[index]])
    raw = predict(model, batch, evaluation.test)[0]
    box = np.zeros(4, np.float32) if sample.person is None else sample.person.box_xywh
    crop: dict[str, Any] = {name: batch[name][0].numpy() for name in ("center", "size") if name in batch}
    return model.task.assemble(sample.image, [(ModelInput(image=batch["image"][0], box_xywh=box, **crop), raw)])
