"""The index of tar results: the shards.json and annotations that training reads, written slice by slice."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from metaprompts.data.shards.index import HAS_CONFIDENCE, INDEX_FILE, LABELED_BY, VERSION, Origin
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.loading import model_folder
from metaprompts.models.pretrained import CONFIG_FILE
from metaprompts.scale.job import LabelJob
from metaprompts.scale.source import Plan
from metaprompts.utils.files import read_json
from metaprompts.utils.schema import to_dict

_ANNOTATIONS = "train_annotations.json"


def write_shard_index(job: LabelJob, plan: Plan, sizes: Mapping[str, int]) -> None:
    """Write shards.json, and for pose the annotations, of a finished job.

    Args:
        job: a job for tar files
        plan: the slices of the job
        sizes: the files in its folder

    Raises:
        InputError: a result has been removed, or a file cannot be written
    """
    task = ModelConfig.from_dict(read_json(model_folder(job.model) / CONFIG_FILE)).task

    def parts() -> Iterator[dict[str, Any]]:
        for part in plan:
            facts = job.facts(part, sizes)
            if facts is None:
                raise InputError(f"{job.folder.place(job.file(part))} no longer exists: run the same command again")
            yield facts

    people = _people(task)
    if people is not None:
        with job.folder.writing(_ANNOTATIONS) as path, path.open("w", encoding="utf-8") as file:
            _write_annotations(file, people, parts)
    with job.folder.writing(INDEX_FILE) as path, path.open("w", encoding="utf-8") as file:
        _write_index(file, _origin(job, task), people, parts)


def _write_index(
    file: IO[str], origin: Origin, people: dict[str, Any] | None, parts: Callable[[], Iterator[dict[str, Any]]]
) -> None:
    samples = 0

    def shards() -> Iterator[dict[str, Any]]:
        """The shards; samples are numbered across all of them."""
        nonlocal samples
        for part in parts():
            if (shard := part["shard"]) is not None:
                first = samples
                for record in shard["records"]:
                    record["samples"] = [first + sample for sample in record["samples"]]
                    samples += len(record["samples"])
                yield shard

    file.write(f'{{"version":{VERSION},"origin":{_text(to_dict(origin))},"splits":{{"train":{{"shards":')
    _write_list(file, shards())
    file.write(',"left_out":')
    _write_list(file, (each for part in parts() for each in part["left_out"]))
    file.write(f',"samples":{samples},"is_whole":true,"people":{_text(people)}}}}}}}\n')


def _write_annotations(file: IO[str], people: dict[str, Any], parts: Callable[[], Iterator[dict[str, Any]]]) -> None:
    skeleton = [[start + 1, end + 1] for start, end in people["skeleton"]]
    category = {"id": 1, "name": "person", "keypoints": people["joint_names"], "skeleton": skeleton}
    file.write(f'{{"categories":{_text([category])},"images":')
    _write_list(file, (each["image"] for part in parts() for each in part.get("people", ())))
    file.write(',"annotations":')
    _write_list(file, (person for part in parts() for each in part.get("people", ()) for person in each["annotations"]))
    file.write("}\n")


def _write_list(file: IO[str], values: Iterator[Any]) -> None:
    separator = "["
    for value in values:
        file.write(separator + _text(value))
        separator = ","
    file.write("[]" if separator == "[" else "]")


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _people(task: Any) -> dict[str, Any] | None:
    if not task.reads_boxes:
        return None
    skeleton = [list(edge) for edge in task.skeleton]
    return {"annotations": _ANNOTATIONS, "joint_names": list(task.joints), "skeleton": skeleton}


def _origin(job: LabelJob, task: Any) -> Origin:
    classes = getattr(task, "classes", None)
    return Origin(
        task=task.name,
        classes=None if classes is None else len(classes),
        class_names=None if classes is None else tuple(classes),
        shard_bytes=0,
        data={
            "root": str(Path()),
            LABELED_BY: job.fingerprint,
            # Joints always have scores.
            HAS_CONFIDENCE: task.reads_boxes or job.options.get("confidence", True),
        },
    )
