"""Names of results: an image's name depends on how it was given, not on what else was."""

import logging
from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.pictures import searched_folder

logger = logging.getLogger(__name__)


def output_names(inputs: Sequence[str], paths: Sequence[Path]) -> dict[Path, Path]:
    """Where each image's results go, below the folder of the results.

    Args:
        inputs: files, folders and patterns as a user writes them
        paths: of the images that they lead to, each once

    Returns:
        path -> the image's name without suffix; for one from a subfolder of a given folder or pattern, in the same
        subfolder. An image whose name an earlier one has gets its folder's name and its suffix besides, with a warning.
    """
    files = {Path(text) for text in inputs}
    # The deepest first: who names a folder and one of its subfolders means both.
    folders = sorted((searched_folder(text) for text in inputs), key=lambda folder: -len(folder.parts))
    names: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for path in paths:
        root = path.parent if path in files else next((each for each in folders if path.is_relative_to(each)), None)
        plain = Path(path.stem) if root is None else (path.relative_to(root)).parent / path.stem
        name = _free_name(plain, path, owners)
        if name != plain:
            logger.warning(
                "%s: %s has results named %s already, so its own are named %s", path, owners[plain], plain, name
            )
        owners[name] = path
        names[path] = name
    return names


def _free_name(plain: Path, path: Path, owners: dict[Path, Path]) -> Path:
    """``plain``, or what tells it from those that are taken: folder and suffix, then a number."""
    if plain not in owners:
        return plain
    name = longer = plain.with_name(f"{path.absolute().parent.name}_{path.stem}_{path.suffix.lstrip('.')}")
    number = 2
    while name in owners:
        name, number = longer.with_name(f"{longer.name}_{number}"), number + 1
    return name
