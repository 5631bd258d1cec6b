"""Images of the report: ground truth next to prediction, refinement steps side by side, an overview of all models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from metaprompts.analysis.drawing import box_of, distinct_images, with_scale
from metaprompts.analysis.prompts import predictions_by_step
from metaprompts.data.sample import Sample
from metaprompts.demo.report import Gallery
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, Prediction
from metaprompts.visualize.depth import depth_range
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import ImageArray

_ROWS, _STEP_ROWS, _OVERVIEW_IMAGES = 4, 2, 4
SCALE = 2
LEGEND_WIDTH = 900


def task_gallery(model: MetaPromptModel, samples: Sequence[Sample], title: str | None = None) -> Gallery:
    """Images, ground truth and predictions of a task."""
    task, chosen, rows, entries = model.task, distinct_images(samples)[:_ROWS], [], set[int]()
    for sample in chosen:
        prediction = model.predict(sample.image, box_of(sample))
        drawn = (task.draw_target(sample), task.draw_prediction(prediction, sample))
        rows.append([enlarge(sample.image), *(with_scale(task, enlarge(image), sample) for image in drawn)])
        entries |= task.legend_entries(sample) | task.legend_entries(prediction)
    return Gallery(
        title=title or task.about.title,
        text=task.about.text,
        columns=("image", "truth", "prediction"),
        rows=rows,
        names=[scene_name(sample) for sample in chosen],
        legend=task.legend(entries, LEGEND_WIDTH),
    )


def steps_gallery(model: MetaPromptModel, samples: Sequence[Sample]) -> Gallery:
    """Predictions after each refinement step, by a model that was trained with a loss on every step."""
    steps = model.config.refinement.steps
    chosen = distinct_images(samples)[:_STEP_ROWS]
    rows = []
    for sample in chosen:
        drawn = [model.task.draw_prediction(each, sample) for each in predictions_by_step(model, sample.image)]
        rows.append([enlarge(sample.image), *(with_scale(model.task, enlarge(image), sample) for image in drawn)])
    return Gallery(
        title=f"Refinement of {model.task.name}, step by step",
        text="The UNet runs several times, with its output fed back. Every step was trained with its own loss.",
        columns=("image", *(f"after step {step}" for step in range(1, steps + 1))),
        rows=rows,
        names=[scene_name(sample) for sample in chosen],
    )


def overview(models: Mapping[str, MetaPromptModel], people: Sequence[Sample]) -> ImageArray:
    """Images side by side, with the prediction of every model below each image.

    Args:
        models: name of the task -> model
        people: samples of the pose task; the first images are shown, with all their annotated people

    Returns:
        (sheet height, sheet width, 3)
    """
    by_image: dict[str, list[Sample]] = {}
    for sample in people:
        by_image.setdefault(sample.path, []).append(sample)
    columns = [_column(models, samples) for samples in list(by_image.values())[:_OVERVIEW_IMAGES]]
    images = [[image for image, _ in column] for column in columns]
    captions = [[caption for _, caption in column] for column in columns]
    return contact_sheet(
        list(zip(*images, strict=True)), list(zip(*captions, strict=True)), cell=images[0][0].shape[:2]
    )


def _column(models: Mapping[str, MetaPromptModel], samples: Sequence[Sample]) -> list[tuple[ImageArray, str]]:
    """An image and its predictions, each with a caption."""
    # Enlarge before predicting: drawings then have the size of the enlarged image, and their lines stay thin.
    image = enlarge(samples[0].image)
    boxes = [(SCALE * sample.person.box_xywh).tolist() for sample in samples if sample.person is not None]
    seen = [model.predict(image, boxes if model.task.reads_boxes else None) for model in models.values()]
    return [(image, "image"), *((_shown(each), _caption(name, each)) for name, each in zip(models, seen, strict=True))]


def _shown(prediction: Prediction) -> ImageArray:
    # The boxes are those of the annotated people, not predictions.
    options = {"boxes": False} if isinstance(prediction, PosePrediction) else {}
    return np.asarray(prediction.show(legend=False, **options))


def _caption(name: str, prediction: Prediction) -> str:
    if not isinstance(prediction, DepthPrediction):
        return name
    near, far = depth_range(prediction.depth_m, prediction.valid)
    return f"{name}: {near:.2g} m (bright) to {far:.2g} m (dark)"


def scene_name(sample: Sample) -> str:
    """The name of a scene's row in a gallery."""
    return f"scene {Path(sample.path).stem}"


def enlarge(image: ImageArray, scale: int = SCALE) -> ImageArray:
    """Enlarge an image by an integer factor, because scenes are small."""
    height, width = image.shape[:2]
    size = (width * scale, height * scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
