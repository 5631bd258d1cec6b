"""What commands print: names of all kinds, on terminals of all kinds, into pipes that others close."""

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
    """Text whose control characters, line ends and tabs apart, are spelled out: a name must not steer a terminal."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(character if _is_harmless(character) else _spelled(character) for character in text)


def prepare_streams() -> None:
    """Let the output spell out what its encoding lacks: names of files and classes may hold anything."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class PrintableFormatter(logging.Formatter):
    """Lines of the log as `printable` spells them."""

    def format(self, record: logging.LogRecord) -> str:
        """One record, with its traceback if it has one."""
        return printable(super().format(record))


def flush_streams() -> None:
    """Write what is left; nobody is told where a reader has closed the pipe, as head does.

    Raises:
        OSError: it cannot be written, as on a full disk
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            silence(stream)
        except OSError:
            # Python would try once more, and end with a message and a code of its own.
            silence(stream)
            raise


def is_closed(stream: TextIO) -> bool:
    """Whether nobody reads the pipe that a stream writes to any more; worker processes have pipes, too."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(happened & select.POLLERR for _, happened in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


def silence(stream: TextIO) -> None:
    """Let nothing that is still written to a stream come out."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _is_harmless(character: str) -> bool:
    # Cf turns the direction of text around or joins letters; the latter are needed in some scripts.
    category = unicodedata.category(character)
    return character in "\n\t\u200c\u200d" or category not in ("Cc", "Cf", "Zl", "Zp")


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
