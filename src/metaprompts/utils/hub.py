"""The Hugging Face hub."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError


def hub_folder(source: str, patterns: list[str], **options: Any) -> Path:
    """Download files of a hub repository to the cache; without a network, use what is cached.

    Args:
        source: hub id (owner/name)
        patterns: patterns that match the files
        options: options of huggingface_hub's snapshot_download: revision, cache_dir, token, ...

    Returns:
        the folder of the files; files that are not in the repository are not in the folder either

    Raises:
        InputError: the repository does not exist, or there is no network and nothing in the cache
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=patterns, **options))
    except Exception as error:  # the client raises its own errors, those of its HTTP library, and system errors
        raise InputError(
            f"no {source}: neither a local folder nor available on the Hub ({type(error).__name__}): check the name "
            "and the network"
        ) from error


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Hide transformers' progress bars while the body runs; they would mix with a command's own lines."""
    from transformers.utils import logging as bars

    shows = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shows:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def without_logging(library: str) -> Iterator[None]:
    """Silence a library's logging while the body runs, where errors and return values suffice."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
