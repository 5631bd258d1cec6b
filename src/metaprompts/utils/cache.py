"""The cache folder for results that are slow to compute and can be recomputed."""

import os
from pathlib import Path

CACHE_VARIABLE = "METAPROMPTS_CACHE"


def cache_folder() -> Path:
    """Folder for compiled models, captions and encodings: $METAPROMPTS_CACHE, or metaprompts/ in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "metaprompts"
