"""``metaprompts scenes``."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from metaprompts.cli.console import say
from metaprompts.cli.options import option
from metaprompts.utils.schema import Range
from metaprompts.utils.wording import counted

Name = Literal["nyu", "kitti", "cityscapes", "ade20k", "mapillary", "coco", "plain"]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Write generated rooms and streets in the format of a known data set.

    Use them to try readers and recipes without the data set itself. A fifth of the scenes is for validation; captions
    and a README.txt are written as well. With coco and plain, both splits show people. If interrupted, run the same
    command again to resume; it always writes the same files.
    """

    layout: Name = "plain"
    """Depth: nyu (rooms), kitti (streets). Segmentation: cityscapes, mapillary (streets), ade20k (both). Pose: coco.
    plain: one small folder of rooms and streets, for all tasks."""
    out: Path = option(metavar="DIR")
    """A new or empty folder, or the folder of an interrupted run of the same command."""
    count: Annotated[int, Range(1, 10**9)] = 200
    """Total number of scenes, over all splits."""
    val_count: int | None = None
    """Number of validation scenes; by default a fifth."""
    seed: Annotated[int, Range(0, 2**53)] = 1_000_000
    """Seed of the first training scene; validation starts a million later. Pre-training uses smaller seeds."""
    height: int | None = None
    """Image height in pixels; by default that of the data set (a quarter of it for cityscapes)."""
    width: int | None = None
    """Image width in pixels."""
    density: float | None = None
    """kitti: share of pixels with measured depth, below the image's upper third; by default 0.3."""
    workers: Annotated[int, Range(1, 10**6)] = 1
    """Number of processes."""

    def run(self) -> int:
        """Generate the missing scenes."""
        from metaprompts.synthetic.layouts import write_scenes
        from metaprompts.utils.progress import tracked

        write_scenes(
            self.layout,
            self.count,
            self.out,
            val_count=self.val_count,
            seed=self.seed,
            height=self.height,
            width=self.width,
            density=self.density,
            workers=self.workers,
            progress=partial(tracked, what="drawing scenes"),
        )
        say(f"{counted(self.count, 'scene')} in {self.out}\n")
        return 0
