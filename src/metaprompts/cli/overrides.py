"""Option parsing for commands that also take recipe keys."""

import logging
from collections.abc import Sequence
from dataclasses import fields

from metaprompts.errors import InputError

logger = logging.getLogger(__name__)


def take_options(words: list[str], names: Sequence[str]) -> dict[str, str | None]:
    """Remove options and their values.

    Args:
        words: the arguments; options are removed in place
        names: option names with dashes; both "--name value" and "--name=value" are accepted

    Returns:
        the value of each option; None if it is not given

    Raises:
        InputError: an option has no value, or an empty one
    """
    found: dict[str, str | None] = dict.fromkeys(names)
    remaining = list(words)
    words.clear()
    while remaining:
        word = remaining.pop(0)
        name, equals, value = word.partition("=")
        if name not in found:
            words.append(word)
            continue
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise InputError(f"{name} has no value")
            value = remaining.pop(0)
        check_not_empty(name, value)
        if found[name] is not None:
            warn_of_repeated(name, value)
        found[name] = value
    return found


def check_not_empty(option: str, value: str) -> None:
    """Check the value of an option.

    Raises:
        InputError: the value is empty, which as a path would mean the current folder
    """
    if not value:
        raise InputError(f"{option} is empty: give a value, or leave {option} out")


def warn_of_repeated(option: str, value: str) -> None:
    """Warn that the last value is used for an option given several times."""
    from metaprompts.utils.distributed_env import is_first_process

    if is_first_process():
        logger.warning("%s is given more than once: the last one holds, %s", option, value)


def take_flag(words: list[str], name: str) -> bool:
    """Remove a flag; returns whether it was given."""
    if name not in words:
        return False
    words.remove(name)
    return True


def check_resume(value: str | None) -> str | None:
    """Check the value of --resume.

    Raises:
        InputError: the value is neither auto nor never
    """
    if value not in (None, "auto", "never"):
        raise InputError(f"--resume is {value!r}; expected auto or never")
    return value


def check_override_keys(words: Sequence[str], options: Sequence[str]) -> None:
    """Check that the arguments left after the options can be recipe keys.

    Args:
        words: "--section.key", "value", ...
        options: the command's own options, with dashes

    Raises:
        InputError: an option is unknown; the message suggests the nearest option or key
    """
    for word in words:
        given = word.partition("=")[0]
        if not given.startswith("--") or "." in given:
            continue
        # This imports PyTorch, which nothing else here needs.
        from metaprompts.recipes.loader import nearest_key

        near = nearest_key(given[2:], [option.removeprefix("--") for option in options], cutoff=0.7)
        expected = f"did you mean --{near}?" if near else f"expected one of {', '.join(options)} or --section.key"
        raise InputError(f"unknown option {given}: {expected}")


def spell_out(words: Sequence[str]) -> list[str]:
    """Pair recipe keys with their values; a flag of the test section without a value means true.

    Args:
        words: "--section.key", "value", ...; "--test.flip" needs no value
    """
    flags = _test_flags()
    spelled: list[str] = []
    followings = [*words, "--"][1:]
    for word, following in zip(words, followings, strict=True):
        spelled.append(word)
        if word in flags and following.startswith("--"):
            spelled.append("true")
    return spelled


def _test_flags() -> set[str]:
    """Boolean keys of the test section, in all accepted spellings."""
    # Importing protocols imports PyTorch, which --help does not need.
    from metaprompts.evaluation.protocols import PROTOCOLS

    names = {field.name for protocol in PROTOCOLS.values() for field in fields(protocol) if field.type is bool}
    return {f"--test.{spelled}" for name in names for spelled in (name, name.replace("_", "-"))}
