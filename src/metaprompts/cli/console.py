"""Console output that is safe for any file name, terminal encoding and closed pipes."""

import io
import logging
import os
import select
import sys
import unicodedata
from contextlib import suppress
from typing import TextIO


def say(text: str) -> None:
    """Write text to the standard output."""
    sys.stdout.write(printable(text))


def complain(text: str) -> None:
    """Write text to the standard error."""
    sys.stderr.write(printable(text))


def printable(text: str) -> str:
    """Escape control characters except newlines and tabs, so that a name cannot control the terminal."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(each if _is_harmless(each) else each.encode("unicode_escape").decode("ascii") for each in text)


def prepare_streams() -> None:
    """Escape characters that the output's encoding lacks; file and class names may contain any character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class PrintableFormatter(logging.Formatter):
    """Log lines escaped by `printable`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record, with its traceback if it has one."""
        return printable(super().format(record))


def flush_streams() -> None:
    """Flush the output; ignores a pipe closed by its reader (for example head).

    Raises:
        OSError: the output cannot be written, for example because the disk is full
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            silence(stream)
        except OSError:
            # Otherwise Python would flush again at exit, and use its own message and exit code.
            silence(stream)
            raise


def is_closed(stream: TextIO) -> bool:
    """Whether the stream is a pipe that its reader has closed; worker processes have pipes too."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(happened & select.POLLERR for _, happened in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


def silence(stream: TextIO) -> None:
    """Discard everything written to a stream from now on."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _is_harmless(character: str) -> bool:
    # Characters of category Cf change the text direction or join letters; some scripts need the joiners.
    category = unicodedata.category(character)
    return character in "\n\t\u200c\u200d" or category not in ("Cc", "Cf", "Zl", "Zp")
