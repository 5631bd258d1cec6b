"""Preview images: predictions of the same few validation samples at each validation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metaprompts.analysis.drawing import box_of, distinct_images
from metaprompts.analysis.prompts import prompt_heatmaps
from metaprompts.data.sample import Sample, SampleDataset
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.torch_modules import eval_mode
from metaprompts.visualize.heatmaps import overlay_heat
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import ImageArray

_SAMPLES = 4
_PROMPTS = 8
_ROW = 4


def samples_to_watch(samples: SampleDataset) -> list[Sample]:
    """A few samples spread over a split."""
    count = min(_SAMPLES, len(samples))
    return distinct_images([samples[place * len(samples) // count] for place in range(count)])


def sample_images(model: MetaPromptModel, samples: Sequence[Sample]) -> dict[str, ImageArray]:
    """Contact sheets of samples with image, ground truth and prediction, and of prompt responses.

    Args:
        model: the model, in any mode
        samples: at least one

    Returns:
        "predictions", and "prompts" if the model has prompt maps
    """
    with eval_mode(model):
        rows = []
        for sample in samples:
            prediction = model.predict(sample.image, box_of(sample), _context(sample))
            rows.append([sample.image, model.task.draw_target(sample), model.task.draw_prediction(prediction, sample)])
        sheets = {"predictions": contact_sheet(rows, [["image", "truth", "prediction"]] * len(rows))}
        if model.config.rearrangement.enabled:
            sheets["prompts"] = _heatmaps(model, samples[0])
    return sheets


def _context(sample: Sample) -> Tensor | None:
    return None if sample.context is None else torch.from_numpy(sample.context)


def _heatmaps(model: MetaPromptModel, sample: Sample) -> ImageArray:
    top = min(_PROMPTS, model.config.prompts.count)
    heatmaps = prompt_heatmaps(model, sample.image, top=top, boxes=box_of(sample), caption=_context(sample))
    images = [overlay_heat(sample.image, heatmap.map) for heatmap in heatmaps]
    captions = [f"prompt {heatmap.prompt}" for heatmap in heatmaps]
    rows = range(0, len(images), _ROW)
    return contact_sheet([images[at : at + _ROW] for at in rows], [captions[at : at + _ROW] for at in rows])
