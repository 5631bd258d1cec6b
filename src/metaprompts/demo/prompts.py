"""Responses of individual meta prompts: heatmaps in scenes with the prompt's preferred class or joint."""

from collections.abc import Iterator, Sequence

import numpy as np

from metaprompts.analysis.drawing import box_of, with_scale
from metaprompts.analysis.prompts import prompt_heatmaps
from metaprompts.data.sample import Sample
from metaprompts.demo.galleries import LEGEND_WIDTH, enlarge, scene_name
from metaprompts.demo.report import Gallery
from metaprompts.metrics.prompt_report import DepthPreferences, Preferences
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.base import Task
from metaprompts.visualize.heatmaps import heat_legend, overlay_heat
from metaprompts.visualize.text import ImageArray

_PROMPTS = 6
_SHOWN_HEIGHT = 256
_TEXTS = {
    "class": "Each row shows the prompt that most prefers a class, in the scene that contains the most of that class. "
    "z is the prompt's mean response on the class minus its mean response everywhere, in standard deviations.",
    "direction": "Each row shows the prompt that most prefers surfaces facing one direction, in the scene with the "
    "most such surfaces. z is the prompt's mean response on these surfaces minus its mean response everywhere, in "
    "standard deviations.",
    "depth": "Prompts that respond most to far and to near objects. The correlation between response and depth is 1 "
    "if the response grows with distance, -1 if it falls. Black in the truth is the sky, whose depth is not known.",
    "joint": "Each row shows the prompt that most prefers a joint, on the largest person on whom that joint is "
    "visible. z is the prompt's "
    "mean response at the joint minus its mean response everywhere, in standard deviations.",
}


_STRONGEST = "from top to bottom, the strongest preference first"
_ORDERS = {
    **dict.fromkeys(("class", "direction", "joint"), _STRONGEST),
    "depth": "from top to bottom, far and near in turn, the strongest correlation first",
}

_Row = tuple[int, str, Sample]
"""A prompt's number, a description of its preference, and the scene that shows it."""


def prompts_gallery(
    model: MetaPromptModel, preferences: Preferences | DepthPreferences, samples: Sequence[Sample]
) -> Gallery:
    """Heatmaps of the prompts with the strongest preferences, over all scenes that were scored.

    Args:
        model: a model for any task
        preferences: from `metaprompts.analysis.prompts.prompt_responses`
        samples: candidate scenes
    """
    kind = "depth" if isinstance(preferences, DepthPreferences) else preferences.kind
    rows = list(
        _by_depth(preferences, samples)
        if isinstance(preferences, DepthPreferences)
        else _by_place(model.task, preferences, samples)
    )
    return Gallery(
        title=f"Meta prompts of {model.task.name}: what they respond to",
        text=_TEXTS[kind],
        columns=("image", "truth", "response of the prompt"),
        rows=[_images(model, prompt, sample) for prompt, _, sample in rows],
        names=[f"{text}; {scene_name(sample)}" for _, text, sample in rows],
        legend=heat_legend(LEGEND_WIDTH, [f"response of each prompt in its scene, on its own scale; {_ORDERS[kind]}"]),
    )


def _by_depth(preferences: DepthPreferences, samples: Sequence[Sample]) -> Iterator[_Row]:
    chosen = preferences.strongest(_PROMPTS)
    spread = [_depth_spread(sample) for sample in samples]
    order = np.argsort(spread)[::-1]
    for number, prompt in enumerate(chosen):
        correlation = preferences.correlation[prompt]
        text = f"prompt {prompt} prefers {'far' if correlation > 0 else 'near'} objects (correlation {correlation:.2f})"
        # The two prompts of a pair, far and near, share a scene.
        yield prompt, text, samples[order[number // 2 % len(order)]]


def _depth_spread(sample: Sample) -> float:
    assert sample.depth_m is not None
    measured = sample.depth_m[np.isfinite(sample.depth_m) & (sample.depth_m > 0)]
    return float(np.log(measured).std()) if measured.size else 0.0


def _by_place(task: Task, preferences: Preferences, samples: Sequence[Sample]) -> Iterator[_Row]:
    for prompt, place in preferences.strongest(_PROMPTS):
        amounts = [task.amount_of(place, sample) for sample in samples]
        best = int(np.argmax(amounts))
        name = preferences.names[place].replace("_", " ")
        text = f"prompt {prompt} prefers {name} (z {preferences.z[prompt, place]:.1f})"
        yield prompt, text, samples[best]


def _images(model: MetaPromptModel, prompt: int, sample: Sample) -> list[ImageArray]:
    (heatmap,) = prompt_heatmaps(model, sample.image, [prompt], boxes=box_of(sample))
    # The pose model sees only the box.
    part = np.ix_(heatmap.seen.any(axis=1), heatmap.seen.any(axis=0))
    images = (sample.image, model.task.draw_target(sample), overlay_heat(sample.image, heatmap.map))
    scale = max(1, _SHOWN_HEIGHT // len(part[0]))
    image, truth, heat = (enlarge(image[part], scale) for image in images)
    return [image, with_scale(model.task, truth, sample), heat]
