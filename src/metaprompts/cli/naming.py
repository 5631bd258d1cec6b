"""Names of results: an image's name depends on how it was given, and never on what else was."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.pictures import searched_folder


def output_names(inputs: Sequence[str], paths: Sequence[Path]) -> tuple[dict[Path, Path], list[str]]:
    """Where each image's results go, below the folder of the results.

    Args:
        inputs: files, folders and patterns as a user writes them
        paths: of the images that they lead to, each once

    Returns:
        path -> the image's name without suffix; for one from a subfolder of a given folder or pattern, in the same
        subfolder; and a line for each image left out, because one before it has that name
    """
    files = {Path(text) for text in inputs}
    # The deepest first: who names a folder and one of its subfolders means both.
    folders = sorted((searched_folder(text) for text in inputs), key=lambda folder: -len(folder.parts))
    names: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    taken = []
    for path in paths:
        root = path.parent if path in files else next((each for each in folders if path.is_relative_to(each)), None)
        name = Path(path.stem) if root is None else (path.relative_to(root)).parent / path.stem
        if name in owners:
            taken.append(
                f"{path}: its results would have the names of those of {owners[name]}: give it a run of its own with "
                "another --out, or name the folder above both in their place"
            )
            continue
        owners[name] = path
        names[path] = name
    return names, taken
