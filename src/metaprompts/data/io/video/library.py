"""Import PyAV, which reads and writes clips."""

from typing import Any

from metaprompts.errors import InputError

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"}
    | {".wmv"}
)
"""Lower-case extensions of clips."""


def load_av() -> Any:
    """Import the module `av`.

    Raises:
        InputError: PyAV is not installed
    """
    try:
        import av
    except ImportError as error:
        raise InputError(f"video needs PyAV ({error}): pip install 'metaprompts[video]'") from error
    return av
