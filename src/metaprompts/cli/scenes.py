"""``metaprompts scenes``."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from metaprompts.cli.console import say
from metaprompts.cli.options import option
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range
from metaprompts.utils.wording import counted

Name = Literal["nyu", "kitti", "cityscapes", "ade20k", "mapillary", "coco", "plain", "video"]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Write generated rooms and streets in the format of a known data set.

    Use them to try out readers and recipes without the real data set. A fifth of the scenes are for validation;
    captions and a README.txt are written as well. In the layouts coco and plain, both splits contain people. If
    interrupted, run the same command again to resume; it always writes the same files.
    """

    layout: Name = "plain"
    """Depth: nyu (rooms), kitti (streets). Segmentation: cityscapes, mapillary (streets), ade20k (both). Pose: coco.
    plain: one small folder of rooms and streets, for all tasks. video: clips filmed by a camera that moves past walking
    people, with exact depth and optical flow (needs 'metaprompts[video]')."""
    out: Path = option(metavar="DIR")
    """A new or empty folder, or the folder of an interrupted run of the same command."""
    count: Annotated[int, Range(1, 10**9)] | None = None
    """Total number of scenes, over all splits, by default 200; for layout video the number of clips, by default 4."""
    frames: Annotated[int, Range(1, 10**6)] | None = None
    """video: number of frames of each clip, 25 per second; by default 100."""
    val_count: int | None = None
    """Number of validation scenes; by default a fifth."""
    seed: Annotated[int, Range(0, 2**53)] = 1_000_000
    """Seed of the first training scene; validation starts a million later. Pre-training uses smaller seeds."""
    height: int | None = None
    """Image height in pixels; by default that of the data set (for cityscapes a quarter of that)."""
    width: int | None = None
    """Image width in pixels."""
    density: float | None = None
    """kitti: fraction of pixels below the image's upper third that have measured depth; by default 0.3."""
    workers: Annotated[int, Range(1, 10**6)] = 1
    """Number of processes."""

    def run(self) -> int:
        """Generate the missing scenes."""
        if self.layout == "video":
            return self._write_videos()
        if self.frames is not None:
            raise InputError(f"--frames requires layout video, but the layout is {self.layout}: omit --frames")
        from metaprompts.synthetic.layouts import write_scenes
        from metaprompts.utils.progress import tracked

        count = 200 if self.count is None else self.count
        write_scenes(
            self.layout,
            count,
            self.out,
            val_count=self.val_count,
            seed=self.seed,
            height=self.height,
            width=self.width,
            density=self.density,
            workers=self.workers,
            progress=partial(tracked, what="rendering scenes"),
        )
        say(f"{counted(count, 'scene')} in {self.out}\n")
        return 0

    def _write_videos(self) -> int:
        from metaprompts.synthetic.layouts.video import write_drives
        from metaprompts.utils.progress import tracked

        given = {"--val-count": self.val_count, "--density": self.density, "--workers": self.workers - 1 or None}
        if wrong := [name for name, value in given.items() if value is not None]:
            raise InputError(f"{wrong[0]} does not apply to layout video: omit it")
        count = 4 if self.count is None else self.count
        write_drives(
            count,
            self.out,
            frames=100 if self.frames is None else self.frames,
            seed=self.seed,
            height=self.height,
            width=self.width,
            progress=partial(tracked, what="drawing videos"),
        )
        say(f"{counted(count, 'video')} in {self.out}\n")
        return 0
