"""The command line, with one file per command. This file chooses the command and turns errors into one line."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from metaprompts import __version__
from metaprompts.cli.console import (
    PrintableFormatter,
    complain,
    flush_streams,
    is_closed,
    prepare_streams,
    say,
    silence,
)
from metaprompts.cli.failures import error_line
from metaprompts.cli.outcome import INTERRUPTED, OK
from metaprompts.cli.signals import ending_as_by_ctrl_c
from metaprompts.errors import InputError
from metaprompts.utils.telemetry import switch_off_telemetry

_HOME = re.compile(r"((?:[\w.-]+=)*)(.*)", re.DOTALL)
_DESCRIPTION = """Stable Diffusion as a perception model: segmentation, metric depth and human pose with learnable
meta prompts. Every command explains itself with --help; --debug shows the traceback of an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; by default the process's own

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
            code = _ended(words)
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
    """Replace ~ by the home folder; shells do not expand it in --out=~/results or in quotes."""
    before, path = _HOME.fullmatch(word).groups()  # type: ignore[union-attr]
    return before + os.path.expanduser(path)  # noqa: PTH111


def _ended(words: list[str]) -> int:
    try:
        return _run(words)
    except SystemExit as end:
        # Help exits with 0; rich exits the same way if the output pipe is closed.
        if end.code not in (None, 0, 1):
            raise
        return OK


def _run(words: list[str]) -> int:
    commands = _commands()
    name = words[0] if words else ""
    if words in (["--version"], ["-V"]):
        say(f"metaprompts {__version__}\n")
        return OK
    if name in commands:
        return _chosen(commands[name], name, words[1:])
    if name in ("--help", "-h"):
        _print_help(commands)
        return OK
    known = f"expected one of {', '.join(commands)}; see metaprompts --help"
    if not name:
        raise InputError(f"no command given: {known}")
    near = get_close_matches(name, list(commands), n=1)
    raise InputError(f"unknown command {name}: {f'did you mean {near[0]}? ' if near else ''}{known}")


def _commands() -> dict[str, type[Any]]:
    from metaprompts.cli.ablate import Ablate
    from metaprompts.cli.bench import Bench
    from metaprompts.cli.data import Data
    from metaprompts.cli.demo import Demo
    from metaprompts.cli.distill_encoder import DistillEncoder
    from metaprompts.cli.evaluate import Evaluate
    from metaprompts.cli.export import Export
    from metaprompts.cli.heatmaps import Heatmaps
    from metaprompts.cli.import_released import ImportReleased
    from metaprompts.cli.memory import Memory
    from metaprompts.cli.predict import Predict
    from metaprompts.cli.pretrain import Pretrain
    from metaprompts.cli.scenes import Scenes
    from metaprompts.cli.submit import Submit
    from metaprompts.cli.train import Train

    return {
        "train": Train,
        "memory": Memory,
        "evaluate": Evaluate,
        "submit": Submit,
        "predict": Predict,
        "export": Export,
        "bench": Bench,
        "pretrain": Pretrain,
        "distill-encoder": DistillEncoder,
        "heatmaps": Heatmaps,
        "demo": Demo,
        "ablate": Ablate,
        "data": Data,
        "scenes": Scenes,
        "import-released": ImportReleased,
    }


def _chosen(command: type[Any], name: str, words: list[str]) -> int:
    from metaprompts.cli.tyro_errors import parse

    # Commands that take recipe keys, or options named after a part, parse their own arguments.
    read = getattr(command, "from_words", None)
    result: int = (read(words) if read else parse(command, words, f"metaprompts {name}")).run()
    return result


def _print_help(commands: Mapping[str, type[Any]]) -> None:
    width = max(map(len, commands))
    listed = (f"  {name:{width}}  {_summary(command)}\n" for name, command in commands.items())
    say(f"usage: metaprompts COMMAND ...\n\n{_DESCRIPTION}\n\n{''.join(listed)}")


def _summary(command: type[Any]) -> str:
    """The first sentence of a command's docstring, without the usage that may follow it."""
    return re.split(r"[.:] |[.:]?\n|: metaprompts ", command.__doc__ or "")[0].rstrip(".")
