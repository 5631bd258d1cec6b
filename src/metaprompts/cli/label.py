"""``metaprompts label``."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from metaprompts.cli.calibration import CALIBRATION, WithCalibration
from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range
from metaprompts.utils.wording import counted

if TYPE_CHECKING:
    from metaprompts.scale.job import LabelJob
    from metaprompts.scale.run import Runner

_MODEL, _WORK = "Model", "Workers"


@dataclass(frozen=True, kw_only=True)
class Label(WithCalibration):
    """Label any number of images, with several processes; can be resumed after any interruption.

    SOURCE is a folder, which is searched recursively for images; a quoted pattern; a .tar file of images (WebDataset);
    a .parquet file with bytes or paths of images; or a .txt file with one of these per line. SOURCE and DST may also be
    URLs such as s3://bucket/folder, if the package for their file system (s3fs, gcsfs, ...) is installed.

    The images are divided into fixed slices, and the labels of each slice are stored in one file, which appears when it
    is complete. Running the same command again labels only images whose labels are missing or that have changed.
    Results are written to a subfolder of DST that is named after the model and the settings, so results of different
    models or settings are never mixed.

    A parquet file has one row per image: path, height, width, prediction (PNG: class indices, 16-bit depth, or 16-bit
    normals), people (pose), confidence, confidence_map (8-bit PNG), model, and error for an unreadable image.
    """

    model: str = argument("MODEL", names=embedded_models)
    """A model folder, a hub id, or an embedded model: micro-depth, micro-pose, micro-segmentation."""
    source: str = argument("SOURCE")
    """The images."""
    out: str = option(metavar="DST")
    """Folder or URL for the results."""
    format: Literal["parquet", "tar"] = "parquet"
    """parquet: labels without images (needs 'metaprompts[label]'); tar: images with labels, for metaprompts train
    --data.shards."""
    shard_size: Annotated[int, Range(1, 10**6)] = option(256, metavar="N")
    """Maximum number of images in a file."""
    review: Annotated[int, Range(1, 1000)] | None = option(None, metavar="N")
    """Also write review.jpg to the results folder, a contact sheet of the N images with the lowest confidence; if
    everything is already labeled, write only this sheet."""
    workers: Annotated[int, Range(1, 10**5)] = option(1, metavar="N", group=_WORK)
    """Number of processes or Ray actors, each with a copy of the model; GPUs are shared among them."""
    engine: Literal["local", "ray"] = option("local", group=_WORK)
    """local: processes on this machine; ray: actors of a Ray cluster (needs 'metaprompts[ray]')."""
    address: str | None = option(None, group=_WORK)
    """ray: address of a running cluster, or auto for the one on this machine; by default, a new one is started."""
    cpus_per_worker: Annotated[float, Range(0, 1024)] | None = option(None, metavar="N", group=_WORK)
    """ray: CPU cores of an actor; by default 1."""
    gpus_per_worker: Annotated[float, Range(0, 64)] | None = option(None, metavar="N", group=_WORK)
    """ray: GPUs of an actor, for example 0.5; by default the actors share all GPUs of the cluster."""
    part: str | None = option(None, metavar="I/N", group=_WORK)
    """Label only part I of N, from 0/N to N-1/N: for N runs on different machines with one DST."""
    device: str | None = option(None, group=_MODEL)
    """cpu, cuda, cuda:1, mps; by default the GPU if there is one."""
    batch_size: Annotated[int, Range(1, 10**6)] = option(8, group=_MODEL)
    """Images per forward pass."""
    inference_engine: Literal["plain", "auto", "eager", "compile", "openvino", "onnx"] = option("plain", group=_MODEL)
    """Engine that executes the model, see metaprompts predict --engine; plain is the model as in training."""
    precision: Literal["fp32", "bf16", "fp16", "w8a16", "w8a8"] = option("fp32", group=_MODEL)
    """bf16, or fp16 on a GPU: 16-bit matrix products; w8a16: 8-bit weights, 32-bit arithmetic; w8a8: 8-bit weights
    and activations (both openvino)."""
    caption: str | None = option(None, group=_MODEL)
    """Caption for all images, if the model reads captions."""
    detector: str | None = option(None, metavar="DETECTOR", group=_MODEL)
    """Pose: find the people, see metaprompts predict --detector; without it, each image is assumed to show one whole
    person."""
    confidence: bool = option(True, group=_MODEL)
    """Compute the confidence; for depth and normals, --no-confidence avoids a second prediction, of the mirrored
    image."""
    calibration: Path | None = option(None, metavar="DIR", group=CALIBRATION)
    """w8a8: folder of images on which the ranges of activations are measured; by default the images to label."""

    def run(self) -> int:
        """Label the images."""
        from metaprompts.scale.run import run

        part, runner, job = _part(self.part), self._runner(), self._job()
        summary = run(job, runner, part, review=self.review or 0)
        say(f"{counted(summary.images, 'image')}, {summary.earlier} of them labeled earlier, ")
        say(f"{summary.errors} with errors\n")
        if summary.unfinished:
            say(f"other parts still have to label {counted(summary.unfinished, 'slice')}\n")
        say(f"labels in {job.folder.url}\n")
        if summary.errors == summary.images > 0:
            raise InputError("no image could be labeled: see the error column of the results")
        return 0

    def _job(self) -> "LabelJob":
        from metaprompts.engines.quantization.calibration import SAMPLES
        from metaprompts.scale.job import LabelJob, absolute
        from metaprompts.scale.labeler import model_fingerprint
        from metaprompts.scale.parquet_source import pyarrow

        if self.format == "parquet":
            pyarrow()
        self.calibration_options.check(self.precision)
        calibrated: dict[str, Any] = {}
        if self.precision == "w8a8":
            folder = None if self.calibration is None else absolute(str(self.calibration))
            calibrated = {"calibration": folder, "calibration_samples": self.calibration_samples or SAMPLES}
        options: dict[str, Any] = {
            "engine": self.inference_engine,
            "precision": self.precision,
            **calibrated,
            "device": self.device,
            "batch_size": self.batch_size,
            "caption": self.caption,
            "detector": self.detector,
            "confidence": self.confidence,
        }
        return LabelJob(
            model=self.model,
            fingerprint=model_fingerprint(self.model),
            source=self.source,
            out=absolute(self.out),
            format=self.format,
            shard_size=self.shard_size,
            options=options,
        )

    def _runner(self) -> "Runner":
        if self.engine == "ray":
            from metaprompts.scale.ray_engine import import_ray, label_with_ray

            import_ray()
            cpus = 1.0 if self.cpus_per_worker is None else self.cpus_per_worker
            return partial(
                label_with_ray, workers=self.workers, address=self.address, cpus=cpus, gpus=self.gpus_per_worker
            )
        from metaprompts.scale.local import label_here, label_in_processes

        for name in ("address", "cpus_per_worker", "gpus_per_worker"):
            if getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} requires --engine ray: add --engine ray, or omit {option}")
        return label_here if self.workers == 1 else partial(label_in_processes, workers=self.workers)


def _part(text: str | None) -> tuple[int, int]:
    """Read --part."""
    if text is None:
        return 0, 1
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise InputError(f"--part is {text}; expected I/N with 0 <= I < N, for example 0/8 to 7/8")
    return int(index), int(count)
