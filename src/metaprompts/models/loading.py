"""Load a model from a folder, the Hub or the package."""

from pathlib import Path

import torch

from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.pretrained import CONFIG_FILE, WEIGHTS_FILE
from metaprompts.utils.device import pick_device
from metaprompts.utils.hub import hub_folder


def load(
    source: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> MetaPromptModel:
    """Load a model, ready to predict.

    Args:
        source: a folder written by `MetaPromptModel.save`, a hub id, or the name of an embedded model:
            "micro-segmentation", "micro-depth", "micro-pose"
        device: the model's device; by default the GPU if there is one, else the CPU
        dtype: precision of the weights, for example torch.bfloat16, by default float32. Predictions are always in
            single precision

    Raises:
        InputError: the model does not exist, or does not load
    """
    chosen = pick_device(device)
    return MetaPromptModel.from_pretrained(model_folder(source), dtype=dtype).to(chosen)


def model_folder(source: str | Path) -> Path:
    """The folder of a model; a hub id is downloaded to the cache.

    Args:
        source: a folder, a hub id, or the name of an embedded model

    Raises:
        InputError: the model does not exist
    """
    path = Path(source).expanduser()
    if not path.is_dir() and str(source) in embedded_models():
        path = embedded_folder(str(source))
    if path.is_dir():
        _check_not_run_folder(path)
        return path
    if str(source).count("/") != 1 or path.is_absolute() or path.exists() or str(source).startswith("."):
        raise InputError(
            f"no model at {source}: give a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, "
            f"a hub id, or one of {', '.join(embedded_models())}"
        )
    return hub_folder(str(source), [CONFIG_FILE, WEIGHTS_FILE])


def _check_not_run_folder(folder: Path) -> None:
    models = [name for name in ("best", "last") if (folder / name / CONFIG_FILE).is_file()]
    if models and not (folder / CONFIG_FILE).exists():
        found = " or ".join(str(folder / name) for name in models)
        raise InputError(f"{folder} is a run folder, not a model folder: give {found}")
