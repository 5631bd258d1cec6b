"""Start a run from the weights of another."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.models.loading import model_folder
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.pretrained import BACKBONE_PARTS, CONFIG_FILE, SECOND_NETWORK, WEIGHTS_FILE
from metaprompts.modules.meta_prompts.prompts import LABEL_TOKENS
from metaprompts.utils.distributed_env import is_first_process
from metaprompts.utils.files import read_json
from metaprompts.utils.tensor_files import is_finite, read_tensors
from metaprompts.utils.wording import listed

logger = logging.getLogger(__name__)

# A model with one refinement step has no output layer, so the backbone's output layer is kept.
_OUTPUT_LAYER = ("unet.conv_norm_out.", "unet.conv_out.")
_SECOND = "second_encoder."
_NAMED_AT_MOST = 6


def init_from(model: MetaPromptModel, source: str | Path) -> list[str]:
    """Copy a trained model's weights into a model, as far as they fit.

    UNet and encoder must have the same architecture; a second encoder keeps its own weights. Prompts, times,
    rearrangement and heads may differ in number or width; they then keep their values, and one warning names them.
    Head outputs are copied for classes or joints that both models have, in any order; other outputs keep their values,
    and a warning lists both.

    Args:
        model: a model with weights
        source: a folder written by training, a hub id, or the name of an embedded model

    Returns:
        the modules of the model that entirely or partly keep fresh weights

    Raises:
        InputError: the model does not exist, cannot be read, has a different backbone, or has non-finite weights
    """
    folder = model_folder(source)
    config_path = folder / CONFIG_FILE
    config = read_json(config_path) if config_path.is_file() else None
    config = config if isinstance(config, dict) else {}
    if config.get("base") is not None:
        raise InputError(
            f"training.init_from {source} was trained on a frozen backbone and saved without it: start from a run "
            "that trained all weights (training.trainable full)"
        )
    tensors = _outputs_by_name(model, read_tensors(folder / WEIGHTS_FILE), config, source)
    tensors = _without_other_second(model, tensors, config, source)
    _warn_of_other_labels(model, config, source)
    _warn_of_other_depth(model, config, source)
    # This model keeps its own labels, and the weights of its second encoder, which are never trained.
    expected = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name != LABEL_TOKENS and not name.startswith(SECOND_NETWORK)
    }
    fitting = {
        name: found for name, found in tensors.items() if name in expected and found.shape == expected[name].shape
    }
    misfits = [name for name in expected if name not in fitting]
    _check_backbone(misfits, expected, tensors, source)
    if broken := [name for name, tensor in fitting.items() if not is_finite(tensor)]:
        raise InputError(f"{source} holds NaN or infinity in {listed(broken, _NAMED_AT_MOST)}: start from another run")
    model.load_state_dict(fitting, strict=False)
    fresh = sorted({name.rpartition(".")[0] for name in misfits})
    if fresh:
        _warn("%s does not cover the whole model; newly initialized: %s", source, listed(fresh, _NAMED_AT_MOST))
    return fresh


def _warn(text: str, *parts: str | Path) -> None:
    """Log a warning, once for all processes of a run."""
    if is_first_process():
        logger.warning(text, *parts)


def _outputs_by_name(
    model: MetaPromptModel, tensors: Mapping[str, Tensor], config: Mapping[str, Any], source: str | Path
) -> Mapping[str, Tensor]:
    """The tensors with the rows of a head's outputs in this model's order."""
    task, key = model.task, model.task.output_names or ""
    names, found = getattr(task, key, None), _section(config, "task").get(key)
    if names is None or not isinstance(found, list) or tuple(found) == names:
        return tensors
    own_names, other_names = list(task.comparable_names(names)), list(task.comparable_names([*map(str, found)]))
    rows = {place: other_names.index(name) for place, name in enumerate(own_names) if name in other_names}
    changed, taken = dict(tensors), False
    for name, own in model.state_dict().items():
        other = tensors.get(name)
        if other is None or not name.startswith(task.output_layers):
            continue
        is_alike = other.shape == (len(found), *own.shape[1:])
        # If nothing is copied, layers with a different number of outputs are reported like all others that do not fit.
        changed.pop(name)
        if rows and is_alike:
            changed[name], taken = own.detach().clone(), True
            for row, place in rows.items():
                changed[name][row] = other[place]
    copied = [name for row, name in enumerate(names) if taken and row in rows]
    _warn(
        "%s has different task.%s, or a different order: outputs copied by name: %s; newly initialized: %s",
        source,
        key,
        ", ".join(copied) or "none",
        ", ".join(name for name in names if name not in copied) or "none",
    )
    return changed


def _without_other_second(
    model: MetaPromptModel, tensors: Mapping[str, Tensor], config: Mapping[str, Any], source: str | Path
) -> Mapping[str, Tensor]:
    """The tensors without projections of a second encoder that this model does not have."""
    own, other = model.config.backbone.second, _section(_section(config, "backbone"), "second")
    if not other or (own is not None and own.fingerprint == other.get("fingerprint")):
        return tensors
    _warn(
        "%s was trained with the second encoder %s, this model with %s: its projections are not copied",
        source,
        str(other.get("source")),
        "none" if own is None else own.source,
    )
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(_SECOND)}


def _warn_of_other_labels(model: MetaPromptModel, config: Mapping[str, Any], source: str | Path) -> None:
    """Warn if the order of label prompts differs: a head reads one map per prompt, in the order of the labels."""
    prompts, found = model.config.prompts, _section(config, "prompts")
    labels = found.get("labels")
    if prompts.kind == found.get("kind") == "label" and labels is not None and tuple(labels) != prompts.labels:
        _warn(
            "%s has different prompt labels, or a different order, but its head is copied unchanged: "
            "set prompts.labels to %s to use the trained head",
            source,
            ",".join(map(str, labels)),
        )


def _warn_of_other_depth(model: MetaPromptModel, config: Mapping[str, Any], source: str | Path) -> None:
    """Warn if the largest depth differs: a head predicts depth as a fraction of it."""
    own, other = getattr(model.task, "max_depth_m", None), _section(config, "task").get("max_depth_m")
    if own is not None and isinstance(other, int | float) and other > 0 and own != other:
        _warn(
            "%s predicts up to %s m, this model up to %s m: at the start, all depths are %.3g times as large",
            source,
            f"{other:g}",
            f"{own:g}",
            own / other,
        )


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _check_backbone(
    misfits: Iterable[str], expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str | Path
) -> None:
    other = [name for name in misfits if name.startswith(BACKBONE_PARTS) and not name.startswith(_OUTPUT_LAYER)]
    if not other:
        return
    name = other[0]
    own = "no tensor of that name" if name not in tensors else str(tuple(tensors[name].shape))
    raise InputError(
        f"training.init_from {source} has a different backbone: {len(other)} of its tensors do not fit, such as "
        f"{name}, expected {tuple(expected[name].shape)}, got {own}; choose the backbone.source of that run"
    )
