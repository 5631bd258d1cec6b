"""A model's folder: config.json and model.safetensors, written whole and read with checks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from metaprompts.errors import InputError, one_line
from metaprompts.models.config import Base, ModelConfig
from metaprompts.modules.backbone import Backbone, load_backbone
from metaprompts.modules.backbone.loading import backbone_fingerprint
from metaprompts.utils.files import read_json, write_json
from metaprompts.utils.tensor_files import load_tensors, read_tensors, write_tensors
from metaprompts.utils.torch_modules import sharing_weights

if TYPE_CHECKING:
    from metaprompts.models.model import MetaPromptModel

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
BACKBONE_PARTS = ("unet.", "latent_encoder.")
"""What the names of a model's tensors begin with that come from its backbone."""

Kind = TypeVar("Kind", bound="MetaPromptModel")

_PRECISIONS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def write_model(
    model: "MetaPromptModel", folder: str | Path, dtype: torch.dtype | None, state: Mapping[str, Tensor] | None
) -> None:
    """Write a model's folder; see `MetaPromptModel.save`."""
    weights = model.own_tensors(state)
    if dtype is not None:
        weights = {name: each.to(dtype) if each.is_floating_point() else each for name, each in weights.items()}
    write_tensors(Path(folder) / WEIGHTS_FILE, weights)
    write_json(Path(folder) / CONFIG_FILE, model.config.plain())


def read_model(kind: type[Kind], folder: str | Path, base: Backbone | None, dtype: torch.dtype | None) -> Kind:
    """Read a model's folder; see `MetaPromptModel.read`."""
    _refuse_precision(dtype, shared=base is not None)
    folder = Path(folder).expanduser()
    path, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    values = read_json(path)
    with _naming(path):
        config = ModelConfig.from_plain(values)
        if config.base is None:
            model = kind.empty(config).to(dtype)
    if config.base is None:
        load_tensors(model, read_tensors(weights), origin=weights)
    else:
        backbone = base or load_backbone(config.base.source)
        _refuse_other_base(config.base, backbone, folder)
        # What is beside the base takes memory only once the file is known to have it.
        with _naming(path), torch.device("meta"):
            model = kind(config, Backbone(sharing_weights(backbone.unet), backbone.vae))
        load_tensors(model, _beside_base(model, read_tensors(weights), weights), origin=weights)
        model.to(dtype)
    return model.eval()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the config file in errors that its content leads to."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a value of a wrong kind or size can fail wherever a layer is built of it
        raise InputError(
            f"{path} is no config of a metaprompts model: a section or value is of a wrong kind ({one_line(error)})"
        ) from error


def _refuse_precision(dtype: torch.dtype | None, *, shared: bool) -> None:
    if dtype is not None and dtype not in _PRECISIONS:
        names = ", ".join(map(str, _PRECISIONS))
        raise InputError(f"weights were asked for as {dtype}; wanted one of {names}")
    if dtype is not None and shared:
        raise InputError(
            f"weights were asked for as {dtype}, but the base is shared with other models: leave the precision out"
        )


def _refuse_other_base(named: Base, backbone: Backbone, folder: Path) -> None:
    found = backbone_fingerprint(backbone)
    if found != named.fingerprint:
        raise InputError(
            f"{folder} was trained on {named.source} with weights {named.fingerprint}; these are {found}: "
            "give the same base"
        )


def _beside_base(model: "MetaPromptModel", own: dict[str, Tensor], origin: Path) -> dict[str, Tensor]:
    """A file's tensors and those of the frozen base, which the file must not have."""
    base = {name: each for name, each in model.state_dict().items() if name not in model.own_tensors()}
    if both := sorted(base.keys() & own.keys()):
        raise InputError(
            f"{origin} holds {len(both)} tensors of the frozen base, such as {both[0]}: it was not saved so"
        )
    return {**own, **base}
