"""A labeling job: its source, its model and settings, and the names of its result files."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from metaprompts import __version__
from metaprompts.engines.quantization.calibration import SAMPLES, Calibration, of_images
from metaprompts.errors import InputError
from metaprompts.scale import parquet_results, tar_results
from metaprompts.scale.images import read_items
from metaprompts.scale.labeler import Labeler
from metaprompts.scale.source import Slice, list_source, slices
from metaprompts.scale.storage import Storage, is_url
from metaprompts.utils.files import json_line
from metaprompts.utils.wording import counted

Format = Literal["parquet", "tar"]
PREFIX = "part-"
_DIGITS = 12


class Done(NamedTuple):
    """The result of a slice.

    Attributes:
        images: number of images
        errors: how many of them have no label
    """

    images: int
    errors: int


Work = Callable[[Slice], Done]
"""Labels a slice, and writes its result."""

MakeWork = Callable[["LabelJob", str | None], Work]
"""A job and a device -> the object that labels the job's slices: `SliceLabeler`, or a stub."""


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """A labeling job, which can be sent to other processes and machines.

    Attributes:
        model: model source, as for `Labeler`
        fingerprint: fingerprint of the model
        source: see `list_source`
        out: folder or URL in which the results folder is created
        format: file format of the results
        shard_size: maximum number of images in a file
        options: further arguments of `Labeler`
    """

    model: str
    fingerprint: str
    source: str
    out: str
    format: Format = "parquet"
    shard_size: int = 256
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that affect the results, which excludes the device."""
        options = {name: value for name, value in self.options.items() if name != "device"}
        return {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "format": self.format,
            "shard_size": self.shard_size,
            "version": __version__,
            **options,
        }

    @property
    def folder(self) -> Storage:
        """The results folder, named after the model and the settings."""
        digits = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        name = Path(self.model).name or "model"
        return Storage(f"{self.out.rstrip('/')}/{name}-{digits}")

    def slices(self) -> Iterator[Slice]:
        """Cut the source into slices; every call yields the same slices until the source changes."""
        return slices(list_source(self.source, self.out), self.shard_size)

    def file(self, part: Slice) -> str:
        """The name of a slice's result."""
        suffix = parquet_results.SUFFIX if self.format == "parquet" else tar_results.SUFFIX
        return f"{PREFIX}{part.number:06d}-{part.fingerprint}{suffix}"

    def done(self, part: Slice, sizes: Mapping[str, int]) -> Done | None:
        """The result of a slice; None if it is missing or invalid.

        Args:
            part: the slice
            sizes: file name -> size of each file in the results folder
        """
        with suppress(InputError):
            facts = self.facts(part, sizes)
            if facts is not None and facts["images"] == len(part.items):
                return Done(facts["images"], facts["errors"])
        return None

    def confidences(self, part: Slice) -> list[float | None]:
        """The confidence of each image of a labeled slice.

        Raises:
            InputError: the result cannot be read
        """
        with self.folder.reading(described_by(self.file(part))) as file:
            if self.format == "parquet":
                return parquet_results.read_confidences(file)
            found: list[float | None] = json.loads(file.read())["confidences"]
            return found

    def facts(self, part: Slice, sizes: Mapping[str, int]) -> dict[str, Any] | None:
        """The metadata of a slice's result, for a tar file from its sidecar; None unless all files are complete.

        Raises:
            InputError: the metadata cannot be read
        """
        name = self.file(part)
        described = described_by(name)
        if described not in sizes:
            return None
        with self.folder.reading(described) as file:
            if self.format == "parquet":
                return parquet_results.read_facts(file)
            try:
                facts: dict[str, Any] = json.loads(file.read())
            except ValueError:
                return None
        shard = facts["shard"]
        return facts if shard is None or sizes.get(name) == shard["size"] else None


class SliceLabeler:
    """Labels slices of a job, in any process on any machine.

    Raises:
        InputError: the model does not load, or differs from the job's model
    """

    def __init__(self, job: LabelJob, device: str | None = None) -> None:
        options = dict(job.options) if device is None else {**job.options, "device": device}
        if options.get("precision") == "w8a8" and options.get("calibration") is None:
            options["calibration"] = _own_images(job, options.get("calibration_samples", SAMPLES))
        self._job, self._labeler = job, Labeler(job.model, **options)
        if self._labeler.fingerprint != job.fingerprint:
            raise InputError(
                f"model {job.model} differs from the model of this job: use the same model on all machines"
            )
        if job.format == "tar":
            tar_results.check_task(self._labeler.model.task)
        self._facts = {
            "fingerprint": job.fingerprint,
            "depth_scale": self._labeler.depth_scale,
            **task_facts(self._labeler.model.task),
        }

    def __call__(self, part: Slice) -> Done:
        """Label a slice, and write its result.

        Raises:
            InputError: the result cannot be written
        """
        labels = self._labeler.labels(read_items(part.items))
        folder, name = self._job.folder, self._job.file(part)
        if self._job.format == "parquet":
            with folder.writing(name) as path:
                errors = parquet_results.write_labels(path, labels, self._facts)
            return Done(len(part.items), errors)
        facts = tar_results.write_labels(folder.writing(name), name, part.first, labels, self._facts)
        # Written last, because it marks the tar file as complete.
        with folder.writing(described_by(name)) as path:
            path.write_text(json_line(facts), encoding="utf-8")
        return Done(facts["images"], facts["errors"])


def _own_images(job: LabelJob, samples: int) -> Calibration | None:
    """The first readable images of the source, each assumed to show one person; None if there are none."""
    contents = read_items(next(job.slices()).items[:samples])
    images = []
    for content in contents:
        with suppress(InputError):
            images.append(content.pixels())
    return of_images(images, samples, f"the first {counted(len(images), 'image')} of the source") if images else None


def described_by(name: str) -> str:
    """The last file of a result to be written, with its metadata: the sidecar of a tar file; a parquet file itself."""
    tar = name.removesuffix(tar_results.SUFFIX)
    return name if tar == name else tar + tar_results.PART_SUFFIX


def task_facts(task: Any) -> dict[str, Any]:
    """The task's entries in the results' metadata: its name, and the names of its classes or joints."""
    names = {key: list(getattr(task, key)) for key in ("classes", "joints") if hasattr(task, key)}
    return {"task": task.name, **names}


def absolute(place: str) -> str:
    """An absolute path, valid in other processes; URLs are unchanged."""
    return place if is_url(place) else str(Path(place).absolute())
