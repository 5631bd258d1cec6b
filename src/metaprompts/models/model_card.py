"""The README.md of a model folder: what the model predicts, how it was trained, what it scores and how to use it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaprompts.embedded import BACKBONE, embedded_models
from metaprompts.models.config import ModelConfig
from metaprompts.modules.backbone.loading import RANDOM
from metaprompts.utils.wording import markdown_table, shown_score, shown_scores, with_unit

PAPER = "https://arxiv.org/abs/2312.14733"

_STABLE_DIFFUSION = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5")
_LICENSES = {
    "micro": "mit",
    **dict.fromkeys((*_STABLE_DIFFUSION, "CompVis/stable-diffusion-v1-4"), "creativeml-openrail-m"),
}
# Values of other keys may be paths on the machine that trained the model.
_SHOWN = {
    "data": ("layout", "image_size"),
    "training": ("steps", "epochs", "batch_size", "precision", "trainable", "seed"),
    "optimizer": ("kind", "lr", "weight_decay"),
}
_USAGE = """## Use

```python
import metaprompts

model = metaprompts.load("FOLDER_OR_HUB_ID")
model.predict("photo.jpg").show()
```

or `metaprompts predict FOLDER_OR_HUB_ID photo.jpg --out predicted`."""


def model_card(
    config: ModelConfig, recipe: Mapping[str, Any] | None = None, metrics: Mapping[str, Any] | None = None
) -> str:
    """The text of README.md, with the metadata that the Hugging Face hub reads.

    Args:
        config: the model's config
        recipe: the recipe's sections, if the model was trained with a recipe
        metrics: scores of the validation split by name, with "step"; None if there was no validation
    """
    from huggingface_hub import ModelCardData

    source = _source(config, recipe)
    about = config.task.about
    metadata = ModelCardData(
        library_name="metaprompts",
        license=_LICENSES.get(source or ""),
        base_model=source if source is not None and _is_hub_id(source) else None,
        pipeline_tag=config.task.hub_task,
        tags=["metaprompts", "stable-diffusion", config.task.name],
    )
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {about.title}",
        _description(config, source),
        _USAGE,
        "## Model\n\n" + markdown_table(("setting", "value"), _facts(config, source)),
    ]
    if recipe is not None:
        parts.append("## Training\n\n" + markdown_table(("key", "value"), _keys(recipe)))
    if metrics is not None:
        parts.append(_scores(metrics, about.scores))
    parts.append("## License\n\n" + _license(config, source))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _description(config: ModelConfig, source: str | None) -> str:
    unet = "the UNet of Stable Diffusion"
    if source == BACKBONE:
        unet = "a small UNet of Stable Diffusion's architecture (not its weights), trained on generated scenes"
    elif source is None or source.startswith(RANDOM):
        unet = "a UNet of Stable Diffusion's architecture"
    prompts = {
        "meta": "learned meta prompts instead of text",
        "label": "the names of its outputs",
        "caption": "a caption of each image",
    }[config.prompts.kind]
    return f"A perception model on {unet}, conditioned on {prompts} ([paper]({PAPER}))."


def _facts(config: ModelConfig, source: str | None) -> Iterator[tuple[str, str]]:
    task = config.task
    yield "task", task.name
    if task.output_names is not None:
        yield task.output_names, ", ".join(getattr(task, task.output_names))
    if (farthest := getattr(task, "max_depth_m", None)) is not None:
        yield "largest depth", f"{farthest:g} m"
    yield "backbone", _public(source) or "not recorded"
    if (second := config.backbone.second) is not None:
        kept = "" if config.base is None else f", not saved here; fingerprint {second.fingerprint}"
        yield "second encoder", f"{_public(second.source)} (frozen{kept})"
    yield "prompts", f"{config.prompts.count} ({config.prompts.kind})"
    yield "refinement steps", str(config.refinement.steps)
    if config.working_size is not None:
        yield "size of training images", "{} x {} (height x width)".format(*config.working_size)
    if config.base is not None:
        yield "frozen backbone", f"not saved here; fingerprint {config.base.fingerprint}"


def _keys(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section, keys in _SHOWN.items():
        for key in keys:
            value = recipe.get(section, {}).get(key)
            if value is not None:
                yield f"{section}.{key}", str(value)
    initial = recipe.get("training", {}).get("init_from")
    if initial is not None:
        yield "training.init_from", _public(str(initial)) or ""


def _scores(metrics: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    meanings_by_title = {with_unit(name): meaning for name, meaning in meanings.items()}
    rows = [
        (name, shown_score(name, value), meanings_by_title.get(name, ""))
        for name, value in shown_scores(metrics).items()
        if isinstance(value, int | float) and name != "step"
    ]
    step = f" after step {metrics['step']}" if "step" in metrics else ""
    return f"## Metrics\n\nOn the validation split{step}:\n\n" + markdown_table(("metric", "value", "meaning"), rows)


def _license(config: ModelConfig, source: str | None) -> str:
    named, second = _public(source), config.backbone.second
    also = "" if second is None else f" The second encoder, {_public(second.source)}, has a license of its own."
    if source in _LICENSES:
        return (
            f"The backbone, {named}, has the license {_LICENSES[source]}. Check the training data's license too.{also}"
        )
    backbone = "The backbone's license" if named is None else f"The license of the backbone, {named},"
    kept = "it is loaded from its own source" if config.base is not None else "its weights are part of this model"
    return f"{backbone} applies: {kept}. Check the training data's license too.{also}"


def _source(config: ModelConfig, recipe: Mapping[str, Any] | None) -> str | None:
    """The source of the backbone."""
    if config.base is not None:
        return config.base.source
    source = (recipe or {}).get("backbone", {}).get("source")
    return None if source is None else str(source)


def _is_hub_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and not Path(source).exists()


def _public(source: str | None) -> str | None:
    """A source without the folder names of the machine that trained the model."""
    if source is None or source in embedded_models() or _is_hub_id(source):
        return source
    return Path(source).name
