"""Save and load a model folder: config.json, model.safetensors and a model card, written atomically."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from metaprompts.errors import InputError, one_line
from metaprompts.models.config import Base, ModelConfig, Second
from metaprompts.models.model_card import model_card
from metaprompts.modules.backbone import Backbone, load_backbone
from metaprompts.modules.backbone.loading import backbone_fingerprint
from metaprompts.modules.backbone.lora import LORA_MARK
from metaprompts.modules.backbone.second_encoder import ImageBackbone
from metaprompts.utils.files import read_json, write_json, write_text
from metaprompts.utils.hub import hub_folder
from metaprompts.utils.tensor_files import load_tensors, read_tensors, write_tensors
from metaprompts.utils.torch_modules import sharing_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
RECIPE_FILE = "recipe.json"
CARD_FILE = "README.md"
SECOND_NETWORK = "second_encoder.network."
"""Prefix of the tensors of the second encoder's frozen network."""

BACKBONE_PARTS = ("unet.", "latent_encoder.", SECOND_NETWORK)
"""Prefixes of the tensors that come from the backbone."""

_PRECISIONS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class PretrainedModel(nn.Module, ModelHubMixin):
    """Saving and loading, in folders and on the hub; `MetaPromptModel` inherits it.

    Args:
        config: the model's config
        backbone: the backbone's networks
    """

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.config = config

    def save(
        self,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        state: Mapping[str, Tensor] | None = None,
        *,
        recipe: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Write config.json, model.safetensors and the model card README.md; each is written atomically.

        For a model on a frozen base, only the trained tensors are written: config.json names the base.

        Args:
            folder: created if needed
            dtype: precision of the stored weights, for example torch.float16 for half the size; by default, unchanged
            state: all tensors by name, if the model holds only shards of them; by default the model's tensors
            recipe: the sections of the model's recipe, written to recipe.json
            metrics: the model's validation scores, for the model card

        Raises:
            InputError: the folder cannot be written
        """
        weights = self.own_tensors(state)
        if dtype is not None:
            weights = {name: each.to(dtype) if each.is_floating_point() else each for name, each in weights.items()}
        write_tensors(Path(folder) / WEIGHTS_FILE, weights)
        write_json(Path(folder) / CONFIG_FILE, self.config.to_dict())
        if recipe is not None:
            write_json(Path(folder) / RECIPE_FILE, recipe)
        write_text(Path(folder) / CARD_FILE, model_card(self.config, recipe, metrics))

    def own_tensors(self, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors that the model does not share with its frozen base; all tensors if it has no base.

        Args:
            state: all tensors by name; by default the model's
        """
        tensors = dict(self.state_dict() if state is None else state)
        if self.config.base is None:
            return tensors
        return {
            name: each for name, each in tensors.items() if not name.startswith(BACKBONE_PARTS) or LORA_MARK in name
        }

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        base: Backbone | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """Load a model, on the CPU, in evaluation mode.

        The weights stay in the file until they are used; a conversion holds only one tensor at a time in the file's
        precision. Training the model does not change the file.

        Args:
            pretrained_model_name_or_path: a folder that `save` wrote, or a hub id
            base: the frozen backbone, if already loaded, so that several models share its weights; by default the base
                named in config.json. A second encoder is loaded from its own source unless ``base`` has the same one
            dtype: precision of the weights, for example torch.bfloat16 for half the memory; by default float32. A
                frozen base is first loaded in float32 to check its fingerprint
            options: options for a hub id: revision, cache_dir, force_download, local_files_only, token

        Raises:
            InputError: the model does not exist, a file is missing, damaged, or does not match the config, or the base
                differs or
            does not support ``dtype``
        """
        _check_precision(dtype, shared=base is not None)
        name = str(pretrained_model_name_or_path)
        folder = Path(name).expanduser()
        if not folder.is_dir() and name.count("/") == 1 and not folder.is_absolute():
            folder = hub_folder(name, [CONFIG_FILE, WEIGHTS_FILE], **options)
        path, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
        values = read_json(path)
        with _naming(path):
            config = ModelConfig.from_dict(values)
            if config.base is None:
                model = cls.from_config(config).to(dtype)
        if config.base is None:
            load_tensors(model, read_tensors(weights), origin=weights)
        else:
            backbone = base or load_backbone(config.base.source)
            _check_base(config.base, backbone, folder)
            # Allocate tensors outside the base only once the file is known to contain them.
            with _naming(path):
                second = _second(config.backbone.second, backbone)
                with torch.device("meta"):
                    model = cls(config, Backbone(sharing_weights(backbone.unet), backbone.vae, second))
            load_tensors(model, _outside_base(model, read_tensors(weights), weights), origin=weights)
            model.to(dtype)
        return model.eval()

    @classmethod
    def from_config(cls, config: ModelConfig) -> Self:
        """A model without weights (on the meta device), to be filled by `load_tensors`."""
        with torch.device("meta"):
            return cls(config)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the files for huggingface_hub's save_pretrained and push_to_hub."""
        self.save(save_directory)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the config file in errors caused by its content."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a value of a wrong type or size can fail anywhere while building layers
        raise InputError(
            f"{path} is not the config of a metaprompts model: a section or value has the wrong type "
            f"({one_line(error)})"
        ) from error


def _check_precision(dtype: torch.dtype | None, *, shared: bool) -> None:
    if dtype is not None and dtype not in _PRECISIONS:
        names = ", ".join(map(str, _PRECISIONS))
        raise InputError(f"dtype is {dtype}; expected one of {names}")
    if dtype is not None and shared:
        raise InputError(f"dtype is {dtype}, but the base is shared with other models: omit dtype")


def _check_base(named: Base, backbone: Backbone, folder: Path) -> None:
    found = backbone_fingerprint(backbone)
    if found != named.fingerprint:
        raise InputError(
            f"{folder} was trained on {named.source} with weights {named.fingerprint}, but the base has {found}: "
            "give the same base"
        )


def _second(named: Second | None, base: Backbone) -> ImageBackbone | None:
    """The image backbone that an adapter was trained with: that of the base, if it is the same."""
    if named is None:
        return None
    if base.second is not None and base.second.fingerprint() == named.fingerprint:
        return base.second
    from metaprompts.modules.backbone.second_loading import load_second

    second = load_second(named.source, len(base.unet.config.block_out_channels))
    found = second.fingerprint()
    if found != named.fingerprint:
        raise InputError(
            f"the adapter was trained with the second encoder {named.source} with weights {named.fingerprint}, but "
            f"{named.source} has {found}: provide the same encoder"
        )
    return second


def _outside_base(model: PretrainedModel, own: dict[str, Tensor], origin: Path) -> dict[str, Tensor]:
    """A file's tensors plus the tensors of the frozen base, which the file must not contain."""
    stored = model.own_tensors()
    base = {name: each for name, each in model.state_dict().items() if name not in stored}
    if both := sorted(base.keys() & own.keys()):
        raise InputError(
            f"{origin} holds {len(both)} tensors of the frozen base, such as {both[0]}; expected only the trained "
            "tensors"
        )
    return {**own, **base}
