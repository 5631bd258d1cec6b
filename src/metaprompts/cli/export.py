"""``metaprompts export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from metaprompts.cli.console import say
from metaprompts.errors import InputError

_SCENES = 4


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the whole model (VAE encoder, all steps, head) as one network for another runtime.

    It takes any number of pictures of one size. Beside it: model.json, which tells what goes in and what the output
    means; parity.json, how far the output is from the model's on real pictures; predict.py and processing.py, an
    example that needs no metaprompts and gives what metaprompts predict gives, if the size is that which it looks at.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A model folder, a hub id, or the name of an embedded model."""
    format: Literal["onnx", "openvino", "torch"]
    """What to write: model.onnx, model.xml with model.bin, or model.pt2 of torch.export."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the results; those of an earlier export are replaced."""
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Of the pictures, multiples of 64; by default what the model was trained on."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Look fewer times than the model was trained to: faster, and worse."""
    pictures: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INPUT")] = ()
    """Pictures to compare by: files, folders or quoted globs; by default generated scenes."""

    def run(self) -> int:
        """Write the files."""
        from rich.console import Console

        from metaprompts.data.pictures import list_pictures, read_picture
        from metaprompts.data.scenes import generate_scene
        from metaprompts.files import refuse_unwritable
        from metaprompts.loading import load
        from metaprompts.runtime.export import export_model

        refuse_unwritable(self.out)
        if self.pictures:
            shown = [read_picture(path) for path in list_pictures(self.pictures)]
        else:
            shown = [generate_scene(seed, 256, 384).image for seed in range(_SCENES)]
        if not shown:
            raise InputError("no pictures found to compare by: name others, or leave --pictures out")
        model = load(self.model, "cpu")
        with Console(stderr=True).status("exporting"):
            report = export_model(model, self.out, kind=self.format, size=self.size, steps=self.steps, pictures=shown)
        say(
            f"{self.out}: model.json, parity.json, predict.py, processing.py\n"
            f"on {report['pictures']} pictures the output differs from the model's by at most "
            f"{report['max_difference']:.1e}, on average by {report['mean_difference']:.1e} (its standard deviation is "
            f"{report['output_std']:.3g})\n"
        )
        return 0
