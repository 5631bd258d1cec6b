"""Resolve a recipe's prompt config: names, sentences and the text encoder's tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.models.config import NAME_PLACE, Prompts
from metaprompts.tasks.base import Task

if TYPE_CHECKING:
    from metaprompts.modules.backbone.text_encoder import TextEncoder

TEMPLATES = (
    "a photo of a {}.",
    "an image of the {}.",
    "a close view of a {}.",
    "a {} in the distance.",
    "part of a {}.",
    "there is a {} in the scene.",
    "{}.",
)
"""Templates that add little meaning to the name; each has the name in a different position."""


def resolved(prompts: Prompts, task: Task, width: int) -> tuple[Prompts, Tensor | None]:
    """Fill in defaults of the prompt config, using the text encoder if the prompts are text.

    Args:
        prompts: the recipe's prompt config
        task: task whose classes or joints are the default labels
        width: D, the UNet's cross-attention size

    Returns:
        the prompts for config.json, with the actual count and the text encoder's fingerprint; and the tokens (N, D) of
        labels

    Raises:
        InputError: there are no labels, or the text encoder cannot be loaded or does not match the UNet
    """
    if prompts.kind == "meta":
        return replace(prompts, labels=None, templates=None, text_source=None, text_fingerprint=None), None
    labels = _label_names(prompts, task) if prompts.kind == "label" else None
    encoder = text_encoder_of(prompts)
    if encoder.width != width:
        from metaprompts.modules.backbone.text_encoder import TEXT_SOURCE

        raise InputError(
            f"the text encoder of {encoder.source} has width {encoder.width}, but the UNet's cross-attention expects "
            f"{width}: set {TEXT_SOURCE} to the model that the UNet comes from"
        )
    filled = replace(prompts, text_fingerprint=encoder.fingerprint())
    if labels is None:
        return replace(filled, count=encoder.length, labels=None, templates=None), None
    templates = prompts.templates or TEMPLATES
    filled = replace(filled, count=len(labels), labels=labels, templates=templates)
    return filled, _label_tokens(encoder, labels, templates)


def text_encoder_of(prompts: Prompts) -> "TextEncoder":
    """Load the text encoder named in the prompt config.

    Raises:
        InputError: no text encoder is named, it cannot be loaded, or it differs from the one in training
    """
    from metaprompts.modules.backbone.text_encoder import TEXT_SOURCE, load_text_encoder

    if prompts.text_source is None:
        raise InputError(f"the source of the text encoder is not known: set {TEXT_SOURCE}")
    encoder = load_text_encoder(prompts.text_source)
    found = encoder.fingerprint()
    if prompts.text_fingerprint not in (None, found):
        raise InputError(
            f"the prompts were made with text encoder {prompts.text_fingerprint}, but {prompts.text_source} has "
            f"{found}: set {TEXT_SOURCE} to the same encoder"
        )
    return encoder


def _label_names(prompts: Prompts, task: Task) -> tuple[str, ...]:
    """The labels, by default the names of the task's classes or joints, as words."""
    if prompts.labels is not None:
        return prompts.labels
    if task.output_names is not None:
        return tuple(name.replace("_", " ") for name in getattr(task, task.output_names))
    raise InputError(
        f"{task.name} has no class or joint names for label prompts: set prompts.labels, such as bedroom,kitchen,office"
    )


def _label_tokens(encoder: "TextEncoder", labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """One token per label: the mean over its sentences (CLIP's prompt ensembling, without normalization): (N, D)."""
    of_templates = [
        encoder.sentences([template.replace(NAME_PLACE, label) for label in labels]) for template in templates
    ]
    return sum(of_templates[1:], of_templates[0]) / len(of_templates)
