"""The commands by name; each is imported only when needed."""

from collections.abc import Mapping
from importlib import import_module

import click

from metaprompts import __version__
from metaprompts.cli.options import DataclassCommand

_DATA = {"check": "data_check.Check", "shard": "data_shard.ShardData"}
_ALL: dict[str, str | Mapping[str, str]] = {
    "train": "train.Train",
    "memory": "memory.Memory",
    "evaluate": "evaluate.Evaluate",
    "submit": "submit.Submit",
    "predict": "predict.Predict",
    "label": "label.Label",
    "calibrate": "calibrate.Calibrate",
    "app": "app.App",
    "export": "export.Export",
    "bench": "bench.Bench",
    "pretrain": "pretrain.Pretrain",
    "distill-encoder": "distill_encoder.DistillEncoder",
    "heatmaps": "heatmaps.Heatmaps",
    "demo": "demo.Demo",
    "ablate": "ablate.Ablate",
    "data": _DATA,
    "scenes": "scenes.Scenes",
    "push": "push.Push",
    "import-released": "import_released.ImportReleased",
}
_HELP = """Stable Diffusion as a perception model: segmentation, metric depth and human pose with learnable meta
prompts."""
_EPILOG = """Every command has --help. Completion: eval "$(_METAPROMPTS_COMPLETE=bash_source
metaprompts)" in ~/.bashrc, or zsh_source in ~/.zshrc."""
_DATA_HELP = "Check a data set, or pack it into shards"


class _Commands(click.Group):
    """A group that imports a command only when needed."""

    def __init__(self, name: str, places: Mapping[str, "str | Mapping[str, str]"], **settings: object) -> None:
        super().__init__(name, commands=dict.fromkeys(places), **settings)  # type: ignore[arg-type]
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order in which they are typically used."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        place = self._places.get(cmd_name)
        if place is None:
            return None
        if not isinstance(place, str):
            return _Commands(cmd_name, place, help=_DATA_HELP, no_args_is_help=False)
        module, _, kind = place.partition(".")
        return DataclassCommand(cmd_name, getattr(import_module(f"metaprompts.cli.{module}"), kind))


def command_line() -> click.Group:
    """The root command; its subcommands return an instance of their dataclass."""
    made = _Commands(
        "metaprompts",
        _ALL,
        help=_HELP,
        no_args_is_help=False,
        epilog=_EPILOG,
        params=[click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error.")],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    return click.version_option(__version__, "--version", "-V", message="%(prog)s %(version)s")(made)
