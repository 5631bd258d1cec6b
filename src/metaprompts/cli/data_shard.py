"""``metaprompts data shard``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.cli.recipe_keys import WithRecipeKeys
from metaprompts.errors import InputError
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.byte_size import parse_bytes
from metaprompts.utils.wording import counted

if TYPE_CHECKING:
    from metaprompts.data.shards.index import Origin, SplitIndex
    from metaprompts.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class ShardData(WithRecipeKeys):
    """Pack a data set into shards: tar files in WebDataset's layout, with an index for reading in any order.

    metaprompts train RECIPE --data.shards DIR then gives bit-identical results to training from the folders. Give
    --data.root DIR, the folder of the data set. With --data.on_error skip, up to data.max_bad_samples unreadable
    training samples are skipped; the validation split must be complete.

    Writes DIR/train-000000.tar, ..., DIR/val-000000.tar, ... and DIR/shards.json; for pose also the annotation files.
    If interrupted, run the same command again to resume at the current shard; it rewrites missing or truncated shards.
    """

    recipe: str = argument("RECIPE", names=recipe_names)
    """A .toml file, a run's recipe.json, or the name of a shipped recipe."""
    out: Path = option(metavar="DIR")
    """A new or empty folder, or the folder of an interrupted run of the same command."""
    shard_bytes: str = option("256MB", metavar="SIZE")
    """Size at which a shard is closed and the next one begins."""
    split: Literal["train", "val"] | None = None
    """Write only this split."""
    resume: Literal["auto", "never"] = "auto"
    """auto: resume with the shards in DIR; never: discard them."""

    def run(self) -> int:
        """Write the shards."""
        from metaprompts.data.shards.writer import begin
        from metaprompts.recipes.loader import read_recipe
        from metaprompts.utils.locks import writing_into

        shard_bytes = parse_bytes(self.shard_bytes, "--shard-bytes")
        recipe = read_recipe(self.recipe, self.overrides)
        if recipe.data.shards is not None:
            raise InputError(f"data.shards is {recipe.data.shards}, but shards are made from folders: omit data.shards")
        recipe.data.folder()
        recipe.data.check_output(self.out)
        with writing_into(self.out, "data shard", deep=True):
            begin(self.out, self._origin(recipe, shard_bytes), restart=self.resume == "never")
            for split in self._splits(recipe):
                say(f"{split}: {_described(self._write(recipe, split))}\n")
        say(f"shards in {self.out}\n")
        return 0

    def _splits(self, recipe: "Recipe") -> "Sequence[Literal['train', 'val']]":
        """The requested splits, without validation if the recipe has none."""
        splits: tuple[Literal["train", "val"], ...] = ("train", "val") if self.split is None else (self.split,)
        if recipe.data.validates:
            return splits
        say("val: none, because data.val is none\n")
        return [split for split in splits if split != "val"]

    def _origin(self, recipe: "Recipe", shard_bytes: int) -> "Origin":
        from metaprompts.data.shards.index import Origin
        from metaprompts.training.dataloaders import HELD_OUT_BY

        held_out = {} if recipe.data.val_share is None else {HELD_OUT_BY: recipe.training.seed}
        names = getattr(recipe.task, "classes", None)
        return Origin(
            task=recipe.task.name,
            classes=None if names is None else len(names),
            class_names=names,
            shard_bytes=shard_bytes,
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


def _described(found: "SplitIndex") -> str:
    size = sum(shard.size for shard in found.shards) / 10**6
    left_out = sum(len(each.samples) for each in found.left_out)
    missing = f", {left_out} of them skipped" if left_out else ""
    return f"{counted(found.samples, 'sample')}{missing}; {counted(len(found.shards), 'tar file')}, {size:.1f} MB"
