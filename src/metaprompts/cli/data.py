"""``metaprompts data``."""

from collections.abc import Sequence
from dataclasses import dataclass

from metaprompts.cli.console import say
from metaprompts.errors import InputError

_USAGE = """usage: metaprompts data check RECIPE --data.root DIR [--full] [--out SHEET] [--section.key value ...]
       metaprompts data shard RECIPE --data.root DIR --out DIR [--section.key value ...]

check   check that a recipe's data exists, is complete and can be read
shard   pack a recipe's data into tar files, for training with --data.shards DIR

Help on each: metaprompts data check --help, metaprompts data shard --help.
"""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Check a data set or pack it into shards: metaprompts data check|shard RECIPE --data.root DIR."""

    words: tuple[str, ...] = ()
    """check or shard, and the subcommand's arguments."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Data":
        """Parse the arguments of ``data``."""
        return cls(words=tuple(words))

    def run(self) -> int:
        """Run the subcommand, or print help."""
        from metaprompts.cli.data_check import Check
        from metaprompts.cli.data_shard import ShardData

        name, *rest = self.words or ("--help",)
        if name == "check":
            return Check.from_words(rest).run()
        if name == "shard":
            return ShardData.from_words(rest).run()
        if name in ("--help", "-h"):
            say(_USAGE)
            return 0
        raise InputError(
            "expected metaprompts data check RECIPE --data.root DIR or metaprompts data shard RECIPE --data.root DIR "
            "--out DIR; see metaprompts data --help"
        )
