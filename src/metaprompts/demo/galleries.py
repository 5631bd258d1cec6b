"""Pictures of the report: truth beside prediction, step beside step, prompt beside prompt."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from metaprompts.comparing import box_of, distinct_pictures, draw_prediction, draw_truth
from metaprompts.data.samples import Sample
from metaprompts.demo.report import Gallery, Picture
from metaprompts.explaining import predictions_by_step, prompt_heatmaps
from metaprompts.model import MetaPromptModel
from metaprompts.predictions import DepthPrediction, Prediction
from metaprompts.visualize.heatmaps import overlay_heat
from metaprompts.visualize.segmentation import class_legend, palette

_ROWS, _STEP_ROWS, _PROMPTS = 4, 2, 6
SCALE = 2
_TITLES = {"segmentation": "What is where", "depth": "How far away it is", "pose": "How people stand"}
_TEXTS = {
    "segmentation": "Each pixel's class, of 17.",
    "depth": "Near is bright, far is dark; truth and prediction have the same colors. The sky has no depth: black.",
    "pose": "Joints of the person in each given box: the person's left in orange, the right in blue.",
}


def task_gallery(model: MetaPromptModel, samples: Sequence[Sample], title: str | None = None) -> Gallery:
    """Pictures, truths and predictions of a task."""
    name = model.task.name
    chosen = distinct_pictures(samples)[:_ROWS]
    rows = [
        [enlarge(sample.image), enlarge(draw_truth(model.task, sample)), enlarge(_shown(model, sample))]
        for sample in chosen
    ]
    legend = None
    if name == "segmentation":
        classes = model.task.classes  # type: ignore[attr-defined]
        legend = class_legend(classes, palette(len(classes)), 900)
    return Gallery(
        title=title or _TITLES[name],
        text=_TEXTS[name],
        columns=("picture", "truth", "prediction"),
        rows=rows,
        legend=legend,
    )


def steps_gallery(model: MetaPromptModel, samples: Sequence[Sample]) -> Gallery:
    """What would be predicted after each refinement step."""
    steps = model.config.refinement.steps
    rows = []
    for sample in distinct_pictures(samples)[:_STEP_ROWS]:
        predictions = predictions_by_step(model, sample.image)
        rows.append([enlarge(sample.image), *(enlarge(_drawn(each, sample)) for each in predictions)])
    return Gallery(
        title=f"Refinement: {model.task.name}",
        text="The UNet looks several times, its own output fed back. Only the last step was trained to be read.",
        columns=("picture", *(f"after step {step}" for step in range(1, steps + 1))),
        rows=rows,
    )


def heatmap_gallery(model: MetaPromptModel, samples: Sequence[Sample]) -> Gallery:
    """Where the most distinct prompts respond."""
    sample = distinct_pictures(samples)[0]
    heatmaps = prompt_heatmaps(model, sample.image, top=_PROMPTS, boxes=box_of(sample))
    pictures = [enlarge(overlay_heat(sample.image, heatmap.map)) for heatmap in heatmaps]
    return Gallery(
        title=f"Meta prompts: {model.task.name}",
        text="Where single learned prompts respond in this picture, the most distinct ones.",
        columns=tuple(f"prompt {heatmap.prompt}" for heatmap in heatmaps),
        rows=[pictures],
    )


def enlarge(picture: Picture) -> Picture:
    """A picture `SCALE` times as large: scenes are small."""
    height, width = picture.shape[:2]
    size = (width * SCALE, height * SCALE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _shown(model: MetaPromptModel, sample: Sample) -> Picture:
    return _drawn(model.predict(sample.image, box_of(sample)), sample)


def _drawn(prediction: Prediction, sample: Sample) -> Picture:
    if isinstance(prediction, DepthPrediction):
        assert sample.depth_m is not None
        # What is predicted for the sky was never trained.
        prediction = replace(prediction, valid=sample.depth_m > 0)
    return draw_prediction(prediction, sample)
