"""``metaprompts data shard``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metaprompts.cli.console import say
from metaprompts.cli.overrides import check_override_keys, check_resume, take_options
from metaprompts.errors import InputError
from metaprompts.utils.byte_size import parse_bytes
from metaprompts.utils.wording import counted

if TYPE_CHECKING:
    from metaprompts.data.shards.index import Origin, SplitIndex
    from metaprompts.recipes.recipe import Recipe

_OPTIONS = ("--resume", "--out", "--shard-bytes", "--split")
_USAGE = """usage: metaprompts data shard RECIPE --data.root DIR --out DIR [--section.key value ...]

Write the training and validation splits of a recipe into tar files in WebDataset's layout, with an index for reading
in any order. metaprompts train RECIPE --data.shards DIR then trains from them, bit-identical to training from the
folders. RECIPE is a .toml file or one of: {recipes}.

  --data.root DIR            folder of the data set
  --out DIR                  a new or empty folder, or one started by the same command
  --shard-bytes SIZE         size at which a shard is closed (default: 256MB)
  --split train|val          write only this split
  --resume auto|never        resume with the shards in DIR (default), or discard them
  --data.num_workers N       number of reader processes
  --data.on_error skip       leave out unreadable training samples, up to data.max_bad_samples; the validation split is
                             never written incompletely

DIR gets train-000000.tar, ..., val-000000.tar, ... and shards.json; for pose also the annotation files. After an
interruption the same command resumes at the current shard; missing or truncated shards are rewritten.
"""
_EXPECTED = "expected metaprompts data shard RECIPE --data.root DIR --out DIR; see metaprompts data shard --help"


@dataclass(frozen=True, kw_only=True)
class ShardData:
    """Pack a data set into shards: metaprompts data shard RECIPE --data.root DIR --out DIR."""

    recipe: str = ""
    """A .toml file, or the name of a shipped recipe."""
    out: Path = Path()
    """Folder of the shards."""
    shard_bytes: int = 256 * 10**6
    """Size at which a shard is closed."""
    splits: tuple[Literal["train", "val"], ...] = ("train", "val")
    """Splits to write."""
    resume: str = "auto"
    """auto: resume with existing shards; never: discard them."""
    overrides: tuple[str, ...] = ()
    """--section.key value ..."""
    wants_help: bool = False
    """Print help instead of writing."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "ShardData":
        """Read the words after ``data shard``.

        Raises:
            InputError: recipe or out are missing, or a value is wrong
        """
        if "--help" in words or "-h" in words:
            return cls(wants_help=True)
        rest = list(words)
        given = take_options(rest, _OPTIONS)
        check_override_keys(rest, _OPTIONS)
        if not rest or rest[0].startswith("-") or not given["--out"]:
            raise InputError(_EXPECTED)
        splits = cls.splits if given["--split"] is None else tuple(_split(given["--split"]))
        return cls(
            recipe=rest[0],
            out=Path(given["--out"]),
            shard_bytes=parse_bytes(given["--shard-bytes"], "--shard-bytes")
            if given["--shard-bytes"]
            else cls.shard_bytes,
            splits=splits,
            resume=check_resume(given["--resume"]) or "auto",
            overrides=tuple(rest[1:]),
        )

    def run(self) -> int:
        """Write the shards, or print help."""
        if self.wants_help:
            from metaprompts.recipes.registry import recipe_names

            say(_USAGE.format(recipes=", ".join(recipe_names())))
            return 0
        from metaprompts.data.shards.writer import begin
        from metaprompts.recipes.loader import read_recipe
        from metaprompts.utils.locks import writing_into

        recipe = read_recipe(self.recipe, self.overrides)
        if recipe.data.shards is not None:
            raise InputError(f"data.shards is {recipe.data.shards}, but shards are made from folders: leave it out")
        recipe.data.folder()
        recipe.data.check_output(self.out)
        with writing_into(self.out, "data shard", deep=True):
            begin(self.out, self._origin(recipe), restart=self.resume == "never")
            for split in self._splits(recipe):
                say(f"{split}: {_described(self._write(recipe, split))}\n")
        say(f"shards in {self.out}\n")
        return 0

    def _splits(self, recipe: "Recipe") -> "Sequence[Literal['train', 'val']]":
        """The requested splits, without validation if the recipe has none."""
        if recipe.data.validates:
            return self.splits
        say("val: none, as data.val is none\n")
        return [split for split in self.splits if split != "val"]

    def _origin(self, recipe: "Recipe") -> "Origin":
        from metaprompts.data.shards.index import Origin
        from metaprompts.tasks import Segmentation
        from metaprompts.training.dataloaders import HELD_OUT_BY

        held_out = {} if recipe.data.val_share is None else {HELD_OUT_BY: recipe.training.seed}
        names = recipe.task.classes if isinstance(recipe.task, Segmentation) else None
        return Origin(
            task=recipe.task.name,
            classes=None if names is None else len(names),
            class_names=names,
            shard_bytes=self.shard_bytes,
            data=recipe.data.sample_settings() | held_out,
        )

    def _write(self, recipe: "Recipe", split: Literal["train", "val"]) -> "SplitIndex":
        from metaprompts.data.shards.writer import write_split
        from metaprompts.training.dataloaders import samples_of
        from metaprompts.utils.progress import ProgressBar

        data, samples = recipe.data, samples_of(recipe, split)
        skips = split == "train" and data.on_error == "skip"
        with ProgressBar(f"writing {split}", len(samples)) as bar:
            return write_split(
                self.out,
                split,
                samples,
                depth_scale=getattr(data, "stored_depth_scale", None),
                at_most=data.max_bad_samples if skips else None,
                workers=data.num_workers,
                on_done=bar.advance,
                on_earlier=bar.resumed,
            )


def _split(name: str) -> list[Literal["train", "val"]]:
    if name == "train":
        return ["train"]
    if name == "val":
        return ["val"]
    raise InputError(f"--split is {name!r}; expected train or val")


def _described(found: "SplitIndex") -> str:
    size = sum(shard.size for shard in found.shards) / 10**6
    left_out = sum(len(each.samples) for each in found.left_out)
    missing = f", {left_out} of them left out" if left_out else ""
    return f"{counted(found.samples, 'sample')}{missing}; {counted(len(found.shards), 'tar file')}, {size:.1f} MB"
