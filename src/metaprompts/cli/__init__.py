"""The command line, with one file per command. This file runs a command and turns errors into one line."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence

import click

from metaprompts.cli.console import (
    PrintableFormatter,
    complain,
    flush_streams,
    is_closed,
    prepare_streams,
    silence,
)
from metaprompts.cli.failures import error_line
from metaprompts.cli.outcome import INTERRUPTED, OK
from metaprompts.cli.signals import ending_as_by_ctrl_c
from metaprompts.errors import InputError
from metaprompts.utils.telemetry import switch_off_telemetry

_HOME = re.compile(r"((?:[\w.-]+=)*)(.*)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; by default those of the process

    Returns:
        0; 1 if some inputs failed and others did not; 2 for bad input or missing resources; 3 for a bug in metaprompts;
        130 if interrupted
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [_with_home(word) for word in words if word != "--debug"]
    prepare_streams()
    switch_off_telemetry()
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    if not debug:
        # Hide library warnings that only a developer can act on.
        warnings.simplefilter("ignore")
    asked: list[float] = []
    try:
        with ending_as_by_ctrl_c() as asked:
            code = _run(words)
            flush_streams()
            return code
    except KeyboardInterrupt:
        complain("interrupted\n")
        return INTERRUPTED
    # Tracebacks are shown only on request.
    except Exception as error:
        if isinstance(error, BrokenPipeError) and is_closed(sys.stdout):
            silence(sys.stdout)
            return OK
        if asked and not isinstance(error, InputError):
            complain("interrupted\n")
            return INTERRUPTED
        if debug:
            raise
        line, code = error_line(error, words[0] if words else "")
        complain(f"error: {line}\n")
        return code


def _with_home(word: str) -> str:
    """Replace ~ with the home folder, as shells do not in --out=~/results or in quotes."""
    before, path = _HOME.fullmatch(word).groups()  # type: ignore[union-attr]
    return before + os.path.expanduser(path)  # noqa: PTH111


def _run(words: list[str]) -> int:
    from metaprompts.cli.commands import command_line

    try:
        made = command_line().main(words, prog_name="metaprompts", standalone_mode=False)
        # Help and --version end with their exit code.
        return made if isinstance(made, int) else made.run()
    except click.UsageError as error:
        said, command = error.format_message().rstrip("."), error.ctx.command_path if error.ctx else "metaprompts"
        raise InputError(f"{said}; see {command} --help") from None
    except SystemExit as end:
        # Help exits with 0; rich exits the same way if the output pipe is closed.
        if end.code not in (None, 0, 1):
            raise
        return OK
