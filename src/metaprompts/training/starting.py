"""Weights that a training starts from: those of another training."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.files import read_json
from metaprompts.prompting.prompts import LABEL_TOKENS
from metaprompts.storage import BACKBONE_PARTS, CONFIG_FILE, WEIGHTS_FILE
from metaprompts.weights import is_finite, read_tensors

logger = logging.getLogger(__name__)

# A model of one refinement step has no output layer; then that of the backbone's source stays.
_OUTPUT_LAYER = ("unet.conv_norm_out.", "unet.conv_out.")
_NAMED_AT_MOST = 6


def start_from(model: nn.Module, folder: Path) -> list[str]:
    """Put a trained model's weights into a model, as far as they fit; the file stays as it is.

    The UNet and the encoder must be of one architecture. Prompts, times, rearrangement and heads may be of another
    number or width: they stay as they are, and one warning names them.

    Args:
        model: with weights
        folder: a model folder that training wrote

    Returns:
        the modules of the model that nothing fitted, or not all

    Raises:
        InputError: the folder holds no readable model, one with another backbone, or weights that are not finite
    """
    folder = folder.expanduser()
    _refuse_small_training(folder)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    # Labels stay this model's own, whatever those of the other were.
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name != LABEL_TOKENS}
    fitting = {name: found for name, found in tensors.items() if name in wanted and found.shape == wanted[name].shape}
    misfits = [name for name in wanted if name not in fitting]
    _refuse_other_backbone(misfits, wanted, tensors, folder)
    if broken := [name for name, tensor in fitting.items() if not is_finite(tensor)]:
        raise InputError(f"{folder} holds NaN or infinity in {_listed(broken)}: start from another training")
    model.load_state_dict(fitting, strict=False)
    fresh = sorted({name.rpartition(".")[0] for name in misfits})
    if fresh:
        logger.warning("%s does not fit all of this model; fresh are %s", folder, _listed(fresh))
    return fresh


def _refuse_small_training(folder: Path) -> None:
    path = folder / CONFIG_FILE
    config = read_json(path) if path.is_file() else None
    if isinstance(config, dict) and config.get("base") is not None:
        raise InputError(
            f"training.start_from {folder} was trained on a frozen backbone and saved without it: start from "
            "a training of all weights (training.trainable full)"
        )


def _refuse_other_backbone(
    misfits: Iterable[str], wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], folder: Path
) -> None:
    other = [name for name in misfits if name.startswith(BACKBONE_PARTS) and not name.startswith(_OUTPUT_LAYER)]
    if not other:
        return
    name = other[0]
    own = "nothing of that name" if name not in tensors else f"one of {tuple(tensors[name].shape)}"
    raise InputError(
        f"training.start_from {folder} has another backbone: {len(other)} of its tensors do not fit, such as {name}, "
        f"wanted {tuple(wanted[name].shape)}, there is {own}; choose the backbone.source of that training"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
