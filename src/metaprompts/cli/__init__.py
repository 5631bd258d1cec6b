"""The command line: one command, one file. This one chooses the command and turns errors into one line."""

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

from metaprompts import __version__
from metaprompts.cli.outcome import BAD_INPUT, INTERRUPTED, OK
from metaprompts.errors import SHOWN_BY_DEBUG, InputError

_DESCRIPTION = """Stable Diffusion as a perception model: segmentation, metric depth and human pose with learnable
meta prompts. Every command explains itself with --help; --debug shows the traceback of an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; by default the process's own

    Returns:
        0; 1 if some inputs failed and others did not; 2 for bad input, or an error of our own; 130 if interrupted
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s")
    if not debug:
        # Libraries warn of what only a developer can change.
        warnings.simplefilter("ignore")
    if words in (["--version"], ["-V"]):
        sys.stdout.write(f"metaprompts {__version__}\n")
        return OK
    try:
        return _run(words)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        return OK
    # Whatever it is, a traceback is for those who ask for it.
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"error: {_one_line(error)}\n")
        return BAD_INPUT


def _run(words: list[str]) -> int:
    import tyro

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

    if words[:1] in (["train"], ["evaluate"]):
        # Recipe keys are of the recipe's task, so their command reads them itself.
        command = Train if words[0] == "train" else Evaluate
        return command.from_words(words[1:]).run()
    if words[:1] == ["data"]:
        return Data.from_words(words[1:]).run()
    if words[:1] == ["pretrain"]:
        # Its options are named after their stage, --vae.steps, where the other commands' have no prefix.
        return Pretrain.from_words(words[1:]).run()
    if words[:1] == ["submit"]:
        return Submit.from_words(words[1:]).run()
    if words[:1] == ["memory"]:
        return Memory.from_words(words[1:]).run()
    if words[:1] == ["heatmaps"]:
        return Heatmaps.from_words(words[1:]).run()
    choices: Any = (
        Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Memory, tyro.conf.subcommand("memory")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Submit, tyro.conf.subcommand("submit")]
        | Annotated[Predict, tyro.conf.subcommand("predict")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Bench, tyro.conf.subcommand("bench")]
        | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
        | Annotated[DistillEncoder, tyro.conf.subcommand("distill-encoder")]
        | Annotated[Heatmaps, tyro.conf.subcommand("heatmaps")]
        | Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Ablate, tyro.conf.subcommand("ablate")]
        | Annotated[Data, tyro.conf.subcommand("data")]
        | Annotated[Scenes, tyro.conf.subcommand("scenes")]
        | Annotated[ImportReleased, tyro.conf.subcommand("import-released")]
    )
    settings = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    chosen: Any = tyro.cli(choices, prog="metaprompts", description=_DESCRIPTION, args=words, config=settings)
    result: int = chosen.run()
    return result


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text} {SHOWN_BY_DEBUG}"
