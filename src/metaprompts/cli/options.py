"""Click commands made from dataclasses: each field is an option or an argument, with its docstring as help."""

import inspect
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from typing import Any

import click

from metaprompts.cli.option_types import Names, metavar_of, name_completer, type_settings, value_completer
from metaprompts.utils.distributed_env import is_first_process
from metaprompts.utils.schema import default_of, from_dict, nearest_name, to_dict, type_hints

logger = logging.getLogger(__name__)

# Larger counts are useless, and some would overflow; a seed may be this large.
_LARGEST = 2**53
_KEYS = f"{__name__}.keys"


def argument(metavar: str, default: Any = MISSING, *, names: Names | None = None) -> Any:
    """A field that is a positional argument.

    Args:
        metavar: the argument's name in help and errors
        default: default value of the argument; without a default, the argument is required
        names: completions to offer, in addition to files
    """
    return field(default=default, metadata={"is_argument": True, "metavar": metavar, "names": names})


def option(
    default: Any = MISSING, *, metavar: str | None = None, names: Names | None = None, group: str = "Options"
) -> Any:
    """A field that is an option, like every other field, but with additional settings.

    Args:
        default: default value of the option; without a default, the option is required
        metavar: the name of the value in help; by default the name of its type
        names: completions to offer, in addition to files
        group: heading in the help under which the option is listed
    """
    return field(default=default, metadata={"metavar": metavar, "names": names, "group": group})


def given_options(command: Any, kind: type[Any]) -> dict[str, object]:
    """The options given to a command, among those that one of its base classes declares: option -> value."""
    values = {f"--{each.name.replace('_', '-')}": getattr(command, each.name) for each in fields(kind)}
    return {name: value for name, value in values.items() if value not in (None, ())}


class DataclassCommand(click.Command):
    """A command that returns an instance of a dataclass.

    Fields that are dataclasses are sections: the options of `Vae` in field `vae` are ``--vae.steps`` and so on.

    Args:
        name: the command's name
        kind: the dataclass; its docstring is the help. A class method `sections` (the command's words -> sections, see
            `cli.recipe_keys.Section`) adds the options of further sections, whose values are collected in the field
            `overrides`
    """

    def __init__(self, name: str, kind: type[Any]) -> None:
        help_text = inspect.getdoc(kind) or ""
        super().__init__(
            name,
            help="\n\n".join(map(_as_it_is, help_text.split("\n\n"))),
            short_help=re.split(r"\.(?:\s|$)", help_text)[0],
            context_settings={
                "help_option_names": ["-h", "--help"],
                "token_normalize_func": _normalized,
                "max_content_width": 120,
                "show_default": True,
            },
        )
        self.kind = kind

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, which may determine the available options."""
        ctx.obj = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(self._with_suggestion(error, ctx), ctx) from None
        except click.UsageError as error:
            # The parser's errors do not carry the command's context.
            error.ctx = error.ctx or ctx
            raise

    def _with_suggestion(self, error: click.NoSuchOption, ctx: click.Context) -> str:
        """The message with one suggestion: a key of this name in any section, or the closest name."""
        params = self.get_params(ctx)
        plain = error.option_name.lstrip("-").removesuffix("s")
        for param in params:
            if isinstance(param, click.Argument) and plain == (param.name or "").removesuffix("s"):
                shown = param.make_metavar(ctx).strip("[].")
                return f"No such option '{error.option_name}': give {shown} without an option name."
        known = [name for param in params for name in param.opts if name.startswith("-")]
        ending = f".{error.option_name.lstrip('-').replace('-', '_')}"
        meant = next((name for name in known if name.endswith(ending)), None)
        meant = meant or nearest_name(error.option_name, known, cutoff=0.6)
        return f"No such option '{error.option_name}'." + (f" Did you mean '{meant}'?" if meant else "")

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters of the fields and of all sections."""
        if _KEYS not in ctx.meta:
            ctx.meta[_KEYS] = _section_options(self.kind, tuple(ctx.obj or ()))
        return [*_parameters(self.kind), *super().get_params(ctx), *ctx.meta[_KEYS]]  # type: ignore[arg-type]

    def make_parser(self, ctx: click.Context) -> Any:
        """The parser; it warns about repeated options, because only the last value is used."""
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_and_warn(args: list[str]) -> Any:
            values, rest, given = parse(args)
            if not ctx.resilient_parsing:
                _warn_of_repeated(given, values)
            return values, rest, given

        parser.parse_args = parse_and_warn  # type: ignore[method-assign]
        return parser

    def invoke(self, ctx: click.Context) -> Any:
        """Create an instance of the dataclass."""
        values, own = dict(ctx.params), _own_sections(self.kind)
        if own:
            texts = {name: to_dict(default_of(each)) for name, each in own.items()}
            for word in values.pop("overrides", ()):
                key, _, text = word.removeprefix("--").partition("=")
                section, _, name = key.partition(".")
                texts[section][name] = text
            hints = type_hints(self.kind)
            values |= {name: from_dict(hints[name], text, name) for name, text in texts.items()}
        return self.kind(**values)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, by group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(param, "group", "Options"), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


def _as_it_is(paragraph: str) -> str:
    """Mark a paragraph with indented lines, such as a table, which click would wrap otherwise."""
    return f"\b\n{paragraph}" if "\n  " in paragraph else paragraph


class _Option(click.Option):
    group = "Options"

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert a value, and reject values that no option can use."""
        shown = f"Option '{self.opts[0]}'"
        for text in value if isinstance(value, tuple) else (value,):
            # An empty path would mean the current folder. A caption may be any text.
            if text == "" and self.name != "caption":
                raise click.BadOptionUsage(self.opts[0], f"{shown} is empty: give a value, or omit it", ctx)
            if isinstance(text, str) and text.startswith("--") and self.name != "caption":
                raise click.BadOptionUsage(self.opts[0], f"{shown} needs a value, got the option {text}", ctx)
        converted = super().process_value(ctx, value)
        for number in converted if isinstance(converted, tuple) else (converted,):
            if isinstance(number, float) and not math.isfinite(number):
                raise click.BadParameter(f"{number} is not a finite number.", ctx, self)
            if isinstance(number, int) and abs(number) > _LARGEST:
                raise click.BadParameter(f"{number} is not in the range {-_LARGEST}<=x<={_LARGEST}.", ctx, self)
        return converted


def _normalized(name: str) -> str:
    """Accept both the underscores of recipe keys and the dashes of options."""
    return name.replace("-", "_") if "." in name else name.replace("_", "-")


def _warn_of_repeated(given: Sequence[click.Parameter], values: Mapping[str, Any]) -> None:
    for param, times in Counter(given).items():
        if times > 1 and isinstance(param, click.Option) and not param.multiple and is_first_process():
            last = values[param.name]
            logger.warning("%s is given %d times: the last value is used, %s", param.opts[0], times, last)


@cache
def _parameters(kind: type[Any]) -> list[click.Parameter]:
    own = _own_sections(kind)
    shown = [each for each in fields(kind) if each.init and each.name not in own and each.name != "overrides"]
    # Arguments first, then the command's own options, then those of its bases.
    names = [name for owner in kind.__mro__ for name in inspect.get_annotations(owner)]
    shown.sort(key=lambda each: (not each.metadata.get("is_argument", False), names.index(each.name)))
    hints = type_hints(kind)
    return [_parameter(kind, each, hints[each.name]) for each in shown]


def _own_sections(kind: type[Any]) -> dict[str, Field[Any]]:
    hints = type_hints(kind)
    return {each.name: each for each in fields(kind) if each.init and is_dataclass(hints[each.name])}


def _parameter(kind: type[Any], each: Field[Any], hint: Any) -> click.Parameter:
    has_default = each.default is not MISSING
    settings = {
        **type_settings(hint),
        "required": not has_default,
        "metavar": each.metadata.get("metavar"),
        "help": _meanings(kind).get(each.name),  # type: ignore[arg-type]
    }
    if has_default:
        settings["default"] = each.default
    if names := each.metadata.get("names"):
        settings["shell_complete"] = name_completer(names)
    if each.metadata.get("is_argument"):
        if settings.pop("multiple", False):
            settings |= {"nargs": -1, "metavar": f"{settings['metavar']}..."}
        if has_default:
            settings["metavar"] = f"[{settings['metavar']}]"
        return click.Argument([each.name], **settings)
    dashed = f"--{each.name.replace('_', '-')}"
    if settings.get("is_flag") and each.default:
        dashed = f"{dashed}/--no-{dashed[2:]}"
    if settings.get("is_flag"):
        settings.pop("metavar")
    made = _Option([each.name, dashed], **settings)
    made.group = each.metadata.get("group", "Options")
    return made


def _section_options(kind: type[Any], words: tuple[str, ...]) -> list[click.Option]:
    """The options of a command's own sections, and of the sections that its arguments select."""
    hints = type_hints(kind)
    found: dict[str, click.Option] = {}
    sections = [(name, hints[name], to_dict(default_of(each)), False) for name, each in _own_sections(kind).items()]
    for section, settings, values, hidden in (*sections, *getattr(kind, "sections", lambda words: ())(words)):
        for made in _keys(section, settings, values, hidden=hidden):
            # Sections of different tasks share keys.
            found.setdefault(made.opts[0], made)
    return list(found.values())


def _keys(section: str, kind: type[Any], values: Mapping[str, Any], *, hidden: bool) -> Iterator[click.Option]:
    """An option for each field of a section; its text is passed on in the parameter `overrides`."""
    hints = type_hints(kind)
    for each in fields(kind):
        if not each.init:
            continue
        default = default_of(each)
        # A flag may be given without a value.
        flag: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if hints[each.name] is bool else {}
        made = _Option(
            [f"key_{section}_{each.name}", f"--{section}.{each.name}"],
            type=str,
            expose_value=False,
            callback=_collect,
            metavar=metavar_of(hints[each.name]),
            help=None
            if hidden
            else _described(_meanings(kind).get(each.name, ""), default, values.get(each.name, default)),  # type: ignore[arg-type]
            show_default=False,
            shell_complete=value_completer(hints[each.name]),
            hidden=hidden,
            **flag,
        )
        made.group = section
        yield made


def _collect(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.params["overrides"] = (*ctx.params.get("overrides", ()), f"{param.opts[0]}={value}")


def _described(meaning: str, default: Any, value: Any) -> str:
    """A key's description, with its default and, where different, the recipe's value."""
    given, usual = (_shown(to_dict(each)) for each in (value, default))
    if value is MISSING:
        return meaning
    if default is MISSING:
        return f"{meaning}  [here: {given}]"
    return f"{meaning}  [default: {usual}]" if given == usual else f"{meaning}  [here: {given}; default: {usual}]"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        shown = ",".join(map(str, value)) or "nothing"
        return shown if len(shown) <= 60 else f"{len(value)} entries"
    return "none" if value is None else str(value)


@cache
def _meanings(kind: type[Any]) -> dict[str, str]:
    """Field -> its description, from the docstrings of a dataclass, its fields and its base classes."""
    # Imported here because this import takes as long as all others together.
    from docstring_parser import parse_from_object

    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if is_dataclass(owner):
            for entry in parse_from_object(owner).params:
                found[entry.arg_name] = " ".join((entry.description or "").split())
    return found
