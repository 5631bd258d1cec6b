"""Names of results: the picture's own name, made different where two pictures share it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def output_stems(paths: Sequence[Path]) -> dict[Path, str]:
    """A stem for each picture's results, no two alike.

    Args:
        paths: of the pictures, each once

    Returns:
        path -> its name without suffix; where several would be alike, the suffix, then the folder, then a number is
        added
    """
    stems: dict[Path, str] = {}
    by_stem = Counter(path.stem for path in paths)
    by_name = Counter(path.name for path in paths)
    used: set[str] = set()
    for path in paths:
        stem = path.stem
        if by_stem[stem] > 1:
            stem = f"{path.stem}_{path.suffix.lstrip('.')}"
        if by_name[path.name] > 1:
            stem = f"{path.absolute().parent.name}_{stem}"
        number, unique = 2, stem
        while unique in used:
            unique, number = f"{stem}_{number}", number + 1
        used.add(unique)
        stems[path] = unique
    return stems
