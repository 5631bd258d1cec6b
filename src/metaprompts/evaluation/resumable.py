"""Evaluate a whole split, sample by sample, over several processes, with resuming after interruptions."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metaprompts.data.loading import Reader
from metaprompts.errors import InputError
from metaprompts.evaluation.dataset import EvalDataset, EvalSample, in_groups, stacked
from metaprompts.evaluation.evaluate import predict, targets
from metaprompts.evaluation.records import (
    SCORES,
    RecordWriter,
    begin,
    belongs_to,
    drop_damaged,
    read_records,
    write_records,
)
from metaprompts.tasks.protocol import EvaluationProtocol, Predictor
from metaprompts.utils.distributed_env import Processes
from metaprompts.utils.files import write_json
from metaprompts.utils.fingerprint import files_stamp
from metaprompts.utils.locks import writing_into
from metaprompts.utils.torch_modules import eval_mode
from metaprompts.utils.wording import counted

Records = Generator[list[dict[str, Any]], None, None]
PredictGroups = Callable[[list[list[int]]], Records]
"""Groups of samples, by their indices -> the records of each group, in any order."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Inputs and output folder of an evaluation.

    Attributes:
        images: the split
        test: the test protocol
        metric_kwargs: arguments of the task's metric
        out: folder for metrics.json, per_image.jsonl and evaluation.json
        what: plain values that identify this evaluation; a stored evaluation is resumed only if they match
        root: folder that the names of files inside it are relative to
        group: number of samples read and predicted together
        workers: number of reader processes
    """

    images: EvalDataset
    test: EvaluationProtocol
    metric_kwargs: Mapping[str, Any]
    out: Path
    what: Mapping[str, Any]
    root: Path
    group: int = 1
    workers: int = 0


@torch.no_grad()
def evaluate_split(
    model: Predictor,
    evaluation: Evaluation,
    *,
    restart: bool = False,
    processes: Processes | None = None,
    predict_groups: PredictGroups | None = None,
    on_done: Callable[[int], None] = lambda samples: None,
    on_earlier: Callable[[int], None] = lambda samples: None,
) -> dict[str, Any]:
    """Predict samples that no earlier run has predicted or that have changed, and score the whole split.

    Samples form the same groups in every run and with any number of processes, so the scores are the same.

    Args:
        model: set to evaluation mode, and restored afterwards
        evaluation: inputs and output folder
        restart: discard the records of earlier runs
        processes: the processes of torchrun that share the work
        predict_groups: predicts groups in other processes; None for `group_records` in this one
        on_done: called with the number of newly finished samples
        on_earlier: called once with the number of samples finished by earlier runs

    Returns:
        the metric's numbers by name

    Raises:
        InputError: a file is invalid, or the folder holds a different, unfinished evaluation
    """
    together = processes or Processes()
    with writing_into(evaluation.out, "evaluate") if together.rank == 0 else nullcontext():
        finished = _finished(evaluation, together, restart=restart)
        on_earlier(len(finished))
        groups = [each for each in in_groups(len(evaluation.images), evaluation.group) if not finished.issuperset(each)]
        if mine := groups[together.rank :: together.count]:
            predict_groups = predict_groups or (lambda groups: group_records(model, evaluation, groups))
            with closing(predict_groups(mine)) as results, RecordWriter(evaluation.out, together.rank) as writer:
                for records in results:
                    new = [record for record in records if record["index"] not in finished]
                    for record in new:
                        writer.write(record)
                    on_done(len(new))
        together.wait()
        metric = _scorer_of_all(model, evaluation)
        scores: dict[str, Any] = metric.scores()
        together.wait()
        if together.rank == 0:
            write_records(evaluation.out, read_records(evaluation.out))
            write_json(evaluation.out / SCORES, scores)
            model.task.write_details(metric, evaluation.out)
    return scores


def _finished(evaluation: Evaluation, together: Processes, *, restart: bool) -> set[int]:
    """The indices of samples that need no prediction, after discarding outdated records."""
    resumed = belongs_to(evaluation.out, evaluation.what, restart=restart)
    together.wait()
    if together.rank == 0:
        if resumed:
            drop_damaged(evaluation.out)
            _forget_changed(evaluation)
        else:
            begin(evaluation.out, evaluation.what)
    together.wait()
    finished = set(read_records(evaluation.out))
    # No process may write before all have read, because they must agree on the division of samples.
    together.wait()
    return finished


def _forget_changed(evaluation: Evaluation) -> None:
    """Drop the records of changed samples."""
    records = read_records(evaluation.out)
    count = len(evaluation.images)
    good = {
        index: record
        for index, record in records.items()
        if index < count and record.get("files") == _stamp(evaluation, index)
    }
    if len(good) < len(records):
        write_records(evaluation.out, good)


@torch.no_grad()
def group_records(model: Predictor, evaluation: Evaluation, groups: list[list[int]]) -> Records:
    """Predict and score groups of samples in order, and yield the records of each."""
    reader: Reader[list[EvalSample]] = Reader(evaluation.images, list, workers=evaluation.workers, batch_sampler=groups)
    metric = model.task.metric(**evaluation.metric_kwargs, **evaluation.test.metric_kwargs())
    with eval_mode(model):
        for images in reader:
            yield _records(model, evaluation, metric, images)


def _records(
    model: Predictor, evaluation: Evaluation, metric: Any, images: Sequence[EvalSample]
) -> list[dict[str, Any]]:
    records = []
    for alike, batch in stacked(images):
        raw, target = predict(model, batch, evaluation.test), targets(batch)
        for place, image in enumerate(alike):
            metric.reset()
            one = slice(place, place + 1)
            model.task.score(metric, raw[one], {name: tensor[one] for name, tensor in target.items()})
            record = {
                "index": image.index,
                "name": _name(image.path, evaluation.root),
                "files": _stamp(evaluation, image.index),
            }
            if "annotation_id" in target:
                record["annotation_id"] = int(target["annotation_id"][place])
            records.append({**record, **metric.summary(), "state": metric.state()})
    return records


def _scorer_of_all(model: Predictor, evaluation: Evaluation) -> Any:
    """The metric of the whole split, summed in the split's order, independent of processes and interruptions."""
    metric = model.task.metric(**evaluation.metric_kwargs, **evaluation.test.metric_kwargs())
    records = read_records(evaluation.out)
    missing = [index for index in range(len(evaluation.images)) if index not in records]
    if missing:
        raise InputError(
            f"the records of {counted(len(missing), 'sample')} disappeared from {evaluation.out} during evaluation: "
            "run the same command again to evaluate them"
        )
    for index in range(len(evaluation.images)):
        metric.add(records[index]["state"])
    return metric


def _stamp(evaluation: Evaluation, index: int) -> str:
    files = evaluation.images.samples.files(index)
    return files_stamp({_name(str(path), evaluation.root): path for path in files})


def _name(path: str, root: Path) -> str:
    whole, folder = Path(path).resolve(), root.resolve()
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else whole.as_posix()
