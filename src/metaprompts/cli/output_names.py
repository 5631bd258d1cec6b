"""Output file names; each depends on how its image was given, not on the other images."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from metaprompts.data.io.images import searched_folder

logger = logging.getLogger(__name__)


def output_names(inputs: Sequence[str], paths: Sequence[Path]) -> dict[Path, Path]:
    """The output path of each image's results, below the output folder.

    Args:
        inputs: files, folders and patterns as given by the user
        paths: the images they expand to, without duplicates

    Returns:
        path -> the image's name without suffix; images from a subfolder of a given folder or pattern keep that
        subfolder. If an earlier image has the same name, the folder's name and the suffix are added, with a warning.
    """
    files = {Path(text) for text in inputs}
    # Deepest first, because a folder and one of its subfolders may both be given.
    folders = sorted((searched_folder(text) for text in inputs), key=lambda folder: -len(folder.parts))
    names: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for path in paths:
        root = path.parent if path in files else next((each for each in folders if path.is_relative_to(each)), None)
        plain = Path(path.stem) if root is None else (path.relative_to(root)).parent / path.stem
        name = _free_name(plain, path, owners)
        if name != plain:
            logger.warning(
                "%s: the results of %s are already named %s, so the results of this image are named %s",
                path,
                owners[plain],
                plain,
                name,
            )
        owners[name] = path
        names[path] = name
    return names


def _free_name(plain: Path, path: Path, owners: dict[Path, Path]) -> Path:
    """``plain``, or a unique variant of it: with folder and suffix, then a number."""
    if plain not in owners:
        return plain
    name = longer = plain.with_name(f"{path.absolute().parent.name}_{path.stem}_{path.suffix.lstrip('.')}")
    number = 2
    while name in owners:
        name, number = longer.with_name(f"{longer.name}_{number}"), number + 1
    return name


def listed_names(names: Mapping[Path, Path]) -> dict[Path, str]:
    """The images' names for a COCO file, such that `match_images` finds each of them.

    Args:
        names: the result of `output_names`

    Returns:
        path -> file name with the folders below the input; if several images have the same name, enough parent folders
        are added to make the names unique
    """
    alike: dict[str, list[Path]] = defaultdict(list)
    for path in names:
        alike[path.name].append(path)
    listed = {}
    for paths in alike.values():
        parts = {path: path.absolute().parts for path in paths}
        length = 1
        while len({each[-length:] for each in parts.values()}) < len(paths) and length < max(map(len, parts.values())):
            length += 1
        for path in paths:
            plain = names[path].with_name(path.name)
            listed[path] = (plain if len(paths) == 1 else Path(*parts[path][-length:])).as_posix()
    return listed
