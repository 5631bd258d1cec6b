"""``metaprompts export``."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from rich.console import Console
from rich.text import Text

from metaprompts.cli.calibration import WithCalibration
from metaprompts.cli.console import printable, say
from metaprompts.cli.options import argument, option
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.utils.byte_size import shown_bytes
from metaprompts.utils.wording import counted

_SCENES = 4


@dataclass(frozen=True, kw_only=True)
class Export(WithCalibration):
    """Write the whole model (VAE encoder, all steps, head) as one network for another runtime.

    The network takes any number of images of one size. Also writes model.json, which describes inputs and outputs;
    parity.json, the difference from the model's output on real images; and predict.py and processing.py, an example
    that runs from any folder without metaprompts and, at the same size, gives the same results as metaprompts predict.
    With --precision w8a8 it also writes quantization.json: the layers that are not quantized, and the effect on the
    output. Finally prints all files with their sizes.
    """

    model: str = argument("MODEL", names=embedded_models)
    """A model folder, a hub id, or an embedded model: micro-depth, micro-pose, micro-segmentation."""
    format: Literal["onnx", "openvino", "torch"]
    """Output format: model.onnx, model.xml with model.bin, or torch.export's model.pt2."""
    out: Path = option(metavar="DIR")
    """Output folder; files of an earlier export are replaced."""
    size: tuple[int, int] | None = option(None, metavar="HEIGHT WIDTH")
    """Image size, multiples of 64; by default the training size."""
    steps: int | None = None
    """Use fewer refinement steps than in training: faster, but less accurate."""
    every_step: bool = False
    """Also output the prediction of each earlier step (step_1, step_2, ...), for models trained with
    training.step_decay."""
    precision: Literal["fp32", "w8a8"] = "fp32"
    """w8a8: 8-bit weights and activations (onnx and openvino)."""
    images: tuple[str, ...] = option((), metavar="IMAGE")
    """Images for the comparison: a file, a folder or a quoted glob; may be repeated. By default generated scenes."""

    def run(self) -> int:
        """Write the files."""
        from metaprompts.data.io.images import list_images, read_image
        from metaprompts.engines.export import STAGES, check_precision, export_model
        from metaprompts.engines.quantization.build import summary
        from metaprompts.models.loading import load
        from metaprompts.synthetic import generate_scene
        from metaprompts.utils.files import check_writable, read_json

        self.calibration_options.check(self.precision)
        check_precision(self.format, self.precision)
        check_writable(self.out)
        if self.images:
            shown = [read_image(path) for path in list_images(self.images)]
        else:
            shown = [generate_scene(seed, 256, 384).image for seed in range(_SCENES)]
        if not shown:
            raise InputError("--images: no images found for the comparison; give other paths, or omit --images")
        # Quantizing shows its own bars.
        with _Stages(1 + STAGES, spins=self.precision == "fp32") as stages:
            stages.begin(f"loading {self.model}")
            model = load(self.model, "cpu")
            exported = export_model(
                model,
                self.out,
                kind=self.format,
                size=self.size,
                steps=self.steps,
                every_step=self.every_step,
                precision=self.precision,
                calibration=self.calibration_options.calibration(self.precision),
                images=shown,
                on_stage=stages.begin,
            )
        parity, output = exported.parity, read_json(self.out / "model.json")["output"]["name"]
        width = max(len(str(path)) for path in exported.files)
        say("".join(f"{path!s:<{width}}  {shown_bytes(path.stat().st_size):>10}\n" for path in exported.files))
        say(
            f"on {counted(parity['images'], 'image')}, {_difference(output, parity)}\n"
            + (f"{summary(self.out)}\n" if self.precision == "w8a8" else "")
            + f"to try it, from any folder: python {shlex.quote(str(self.out.resolve() / 'predict.py'))} IMAGE\n"
        )
        return 0


def _difference(name: str, parity: Mapping[str, Any]) -> str:
    """The difference between the file's output ``name`` and the model's, absolute and relative to its spread."""
    largest, mean, spread = (parity[key] for key in ("max_difference", "mean_difference", "output_std"))
    relative = (
        f"; relative to its standard deviation of {spread:.3g}, by {largest / spread:.1e} and {mean / spread:.1e}"
    )
    return (
        f"the output {name} differs from the model's by at most {largest:.1e} and on average by {mean:.1e}"
        f"{relative if spread else ''} (model.json says what {name} is)"
    )


class _Stages:
    """Prints each stage as it begins and how long the last one took, with a spinner in a terminal."""

    def __init__(self, count: int, *, spins: bool) -> None:
        self._console = Console(stderr=True, soft_wrap=True)
        self._spinner = self._console.status("")
        self._count, self._number, self._began, self._spins = count, 0, time.monotonic(), spins

    def __enter__(self) -> Self:
        if self._spins:
            self._spinner.start()
        return self

    def begin(self, stage: str) -> None:
        """Start a stage."""
        self._end()
        self._number += 1
        line = Text(printable(f"{self._number}/{self._count} {stage}"))
        self._console.print(line)
        self._spinner.update(line)

    def _end(self) -> None:
        now = time.monotonic()
        if self._number:
            self._console.print(f"    done in {now - self._began:.1f} s", highlight=False)
        self._began = now

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._spinner.stop()
        if kind is None:
            self._end()
