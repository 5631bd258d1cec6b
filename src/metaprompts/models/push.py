"""Upload a model folder to the Hugging Face hub."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError, one_line
from metaprompts.models.config import ModelConfig
from metaprompts.models.loading import model_folder
from metaprompts.models.model_card import model_card
from metaprompts.models.pretrained import CARD_FILE, CONFIG_FILE, RECIPE_FILE, WEIGHTS_FILE
from metaprompts.utils.files import read_json
from metaprompts.utils.tensor_files import read_tensors


def push(source: str | Path, repo_id: str, *, private: bool = False, message: str | None = None) -> str:
    """Upload a model in one commit: config.json, model.safetensors, recipe.json and README.md.

    The token comes from ``hf auth login`` or the environment variable HF_TOKEN.

    Args:
        source: a model folder, or the name of an embedded model
        repo_id: owner/name; the repository is created if it does not exist
        private: whether a new repository is private
        message: commit message; None for a default message

    Returns:
        the URL of the commit

    Raises:
        InputError: the model does not exist or is damaged, or the upload failed
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HFValidationError

    folder = model_folder(source)
    config = ModelConfig.from_dict(read_json(folder / CONFIG_FILE))
    read_tensors(folder / WEIGHTS_FILE)
    recipe = read_json(folder / RECIPE_FILE) if (folder / RECIPE_FILE).is_file() else None
    operations = [
        CommitOperationAdd(name, str(folder / name))
        for name in (CONFIG_FILE, WEIGHTS_FILE, RECIPE_FILE, CARD_FILE)
        if (folder / name).is_file()
    ]
    if not (folder / CARD_FILE).is_file():
        operations.append(CommitOperationAdd(CARD_FILE, model_card(config, recipe).encode()))
    api = HfApi(library_name="metaprompts")
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.create_commit(repo_id, operations, commit_message=message or f"Upload {config.task.name} model")
    except HFValidationError as error:
        raise InputError(f"{repo_id} is not a repository: expected owner/name ({one_line(error)})") from error
    except Exception as error:  # the client raises its own errors, those of its HTTP library, and system errors
        raise InputError(
            f"the upload to {repo_id} failed ({type(error).__name__}: {one_line(error)}): check the network, the "
            "owner's name, and the token of `hf auth login` or HF_TOKEN"
        ) from error
    return str(commit.commit_url)


def local_paths(source: str | Path) -> list[str]:
    """The absolute paths that a model's recipe.json and config.json would publish, as "key: path"."""
    folder = model_folder(source)
    files = [folder / name for name in (CONFIG_FILE, RECIPE_FILE) if (folder / name).is_file()]
    return [f"{path.name} {found}" for path in files for found in _absolute(read_json(path))]


def _absolute(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _absolute(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str) and Path(value).is_absolute():
        yield f"{key}: {value}"
