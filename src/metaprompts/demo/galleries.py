"""Pictures of the report: truth beside prediction, step beside step, prompt beside prompt."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from metaprompts.data.samples import Sample
from metaprompts.demo.report import Gallery, Picture
from metaprompts.explaining import predictions_by_step, prompt_heatmaps
from metaprompts.model import MetaPromptModel
from metaprompts.predictions import DepthPrediction, PosePrediction, Prediction, SegmentationPrediction
from metaprompts.visualize.depth import color_depth, depth_range
from metaprompts.visualize.heatmaps import overlay_heat
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.segmentation import class_legend, overlay_labels, palette

_ROWS, _STEP_ROWS, _PROMPTS = 4, 2, 6
SCALE = 2
_TITLES = {"segmentation": "What is where", "depth": "How far away it is", "pose": "How people stand"}
_TEXTS = {
    "segmentation": "Each pixel's class, of 17.",
    "depth": "Near is bright, far is dark; truth and prediction have the same colors. The sky has no depth.",
    "pose": "Joints of the person in each given box: the person's left in orange, the right in blue.",
}


def task_gallery(model: MetaPromptModel, samples: Sequence[Sample], title: str | None = None) -> Gallery:
    """Pictures, truths and predictions of a task."""
    name = model.task.name
    chosen = _distinct_pictures(samples)[:_ROWS]
    rows = [
        [enlarge(sample.image), enlarge(_truth(model, sample)), enlarge(_shown(model, sample))] for sample in chosen
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
    for sample in _distinct_pictures(samples)[:_STEP_ROWS]:
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
    sample = _distinct_pictures(samples)[0]
    boxes = None if sample.person is None else [sample.person.box_xywh.tolist()]
    heatmaps = prompt_heatmaps(model, sample.image, top=_PROMPTS, boxes=boxes)
    pictures = [enlarge(overlay_heat(sample.image, heatmap.map)) for heatmap in heatmaps]
    return Gallery(
        title=f"Meta prompts: {model.task.name}",
        text="Where single learned prompts respond in this picture, the most distinct ones.",
        columns=tuple(f"prompt {heatmap.prompt}" for heatmap in heatmaps),
        rows=[pictures],
    )


def _distinct_pictures(samples: Sequence[Sample]) -> list[Sample]:
    """One sample of each picture: pose has as many as there are people in it."""
    return list({sample.path: sample for sample in reversed(samples)}.values())[::-1]


def enlarge(picture: Picture) -> Picture:
    """A picture `SCALE` times as large: scenes are small."""
    height, width = picture.shape[:2]
    size = (width * SCALE, height * SCALE)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _truth(model: MetaPromptModel, sample: Sample) -> Picture:
    if sample.labels is not None:
        return overlay_labels(sample.image, sample.labels, palette(len(model.task.classes)))  # type: ignore[attr-defined]
    if sample.depth_m is not None:
        return color_depth(sample.depth_m, *_range(sample))
    assert sample.person is not None
    keypoints = sample.person.keypoints[None]
    return draw_skeleton(
        sample.image,
        keypoints[..., :2],
        keypoints[..., 2],
        model.task.skeleton,  # type: ignore[attr-defined]
        joints=model.task.joints,  # type: ignore[attr-defined]
    )


def _shown(model: MetaPromptModel, sample: Sample) -> Picture:
    boxes = None if sample.person is None else [sample.person.box_xywh.tolist()]
    return _drawn(model.predict(sample.image, boxes), sample)


def _drawn(prediction: Prediction, sample: Sample) -> Picture:
    if isinstance(prediction, DepthPrediction):
        return color_depth(prediction.depth_m, *_range(sample))
    if isinstance(prediction, SegmentationPrediction):
        return np.asarray(prediction.show(legend=False))
    assert isinstance(prediction, PosePrediction)
    return np.asarray(prediction.show())


def _range(sample: Sample) -> tuple[float, float]:
    assert sample.depth_m is not None
    return depth_range(sample.depth_m)
