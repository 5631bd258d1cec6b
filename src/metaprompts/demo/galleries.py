"""Images of the report: ground truth next to prediction, and step next to step."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from metaprompts.analysis.drawing import box_of, distinct_images, draw_prediction, draw_truth
from metaprompts.analysis.prompts import predictions_by_step
from metaprompts.data.sample import Sample
from metaprompts.demo.report import Gallery
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.base import ImageArray
from metaprompts.visualize.segmentation import class_legend, palette

_ROWS, _STEP_ROWS = 4, 2
SCALE = 2
_TITLES = {
    "segmentation": "Semantic segmentation: the class of each pixel",
    "depth": "Metric depth: the distance of each pixel in meters",
    "pose": "Human pose: the joints of each person",
}
_TEXTS = {
    "segmentation": "One of 17 classes for each pixel; the legend below names the colors.",
    "depth": "Near is bright, far is dark; truth and prediction of a scene have the same colors. The sky is drawn "
    "as far as the farthest thing.",
    "pose": "17 joints of the person in each given box: the person's left in orange, the right in blue.",
}


def task_gallery(model: MetaPromptModel, samples: Sequence[Sample], title: str | None = None) -> Gallery:
    """Images, truths and predictions of a task."""
    name = model.task.name
    chosen = distinct_images(samples)[:_ROWS]
    rows = [
        [enlarge(sample.image), enlarge(draw_truth(model.task, sample)), enlarge(_predicted(model, sample))]
        for sample in chosen
    ]
    legend = None
    if name == "segmentation":
        classes = model.task.classes  # type: ignore[attr-defined]
        legend = class_legend(classes, palette(len(classes)), 900)
    return Gallery(
        title=title or _TITLES[name],
        text=_TEXTS[name],
        columns=("image", "truth", "prediction"),
        rows=rows,
        names=[scene_name(sample) for sample in chosen],
        legend=legend,
    )


def steps_gallery(model: MetaPromptModel, samples: Sequence[Sample]) -> Gallery:
    """Predictions after each refinement step, of a model that was trained with a loss on every step."""
    steps = model.config.refinement.steps
    chosen = distinct_images(samples)[:_STEP_ROWS]
    rows = []
    for sample in chosen:
        predictions = predictions_by_step(model, sample.image)
        rows.append([enlarge(sample.image), *(enlarge(draw_prediction(each, sample)) for each in predictions)])
    return Gallery(
        title=f"Refinement of {model.task.name}, step by step",
        text="The UNet runs several times, its own output fed back. Every step was trained to give a prediction.",
        columns=("image", *(f"after step {step}" for step in range(1, steps + 1))),
        rows=rows,
        names=[scene_name(sample) for sample in chosen],
    )


def scene_name(sample: Sample) -> str:
    """The name of a gallery's row."""
    return f"scene {Path(sample.path).stem}"


def enlarge(image: ImageArray, scale: int = SCALE) -> ImageArray:
    """Enlarge an image by a whole factor: scenes are small."""
    height, width = image.shape[:2]
    size = (width * scale, height * scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _predicted(model: MetaPromptModel, sample: Sample) -> ImageArray:
    return draw_prediction(model.predict(sample.image, box_of(sample)), sample)
