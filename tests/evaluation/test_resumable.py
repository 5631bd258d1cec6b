import json
import os
import re
import shutil
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from evaluation.oracles import TASKS, Oracle, People, Samples
from metaprompts.data.transforms.pose_crop import PoseCrop
from metaprompts.errors import InputError
from metaprompts.evaluation.dataset import EvalDataset, seen_batches
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.evaluation.resumable import Evaluation, evaluate_split
from metaprompts.tasks.depth import DepthProtocol
from metaprompts.tasks.pose import PoseProtocol
from metaprompts.tasks.segmentation import SegmentationProtocol
from metaprompts.utils.distributed_env import processes

TESTS = {
    "segmentation": SegmentationProtocol(window=24, stride=16, flip=True, scales=(0.5, 1.0)),
    "depth": DepthProtocol(num_windows=2, flip=True, crop="garg"),
    "pose": PoseProtocol(flip=True, oks_nms=0.5),
}
COUNT = 7


def evaluation_of(task, folder, *, group=2, what=0):
    test = TESTS[task]
    if task == "pose":
        samples = People(COUNT, folder)
        truth = folder / "truth.json"
        if not truth.exists():
            truth.write_text(json.dumps(samples.truth()))
        transforms, metric_kwargs = [PoseCrop(64, 64, TASKS["pose"].joints, padding=1.25)], {"annotations": truth}
    else:
        samples, transforms, metric_kwargs = Samples(COUNT, folder), [], {}
    return Evaluation(
        images=EvalDataset(samples, transforms, test),
        test=test,
        metric_kwargs=metric_kwargs,
        out=folder / "out",
        what={"what": what},
        root=folder,
        group=group,
    )


def whole(task, folder):
    folder.mkdir(exist_ok=True)
    return evaluate_split(Oracle(TASKS[task]), evaluation_of(task, folder))


def records(folder):
    """What was found, without what tells when and where the files were written."""
    lines = (folder / "out/per_image.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in ("files", "sum")} for line in lines]


def interrupt_after(samples):
    done = []

    def on_done(count):
        done.append(count)
        if sum(done) >= samples:
            raise KeyboardInterrupt

    return on_done


@pytest.mark.parametrize("task", list(TASKS))
def test_scores_equal_those_of_all_batches_at_once(task, tmp_path):
    scores = whole(task, tmp_path)
    one = evaluation_of(task, tmp_path, group=1)
    batches = seen_batches(one.images, batch_size=1, workers=0)
    expected = evaluate(Oracle(TASKS[task]), batches, metric_kwargs=one.metric_kwargs, test=one.test)
    assert scores.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-9, err_msg=name)
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written == json.loads(json.dumps(scores).replace("NaN", "null"))


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("after", [1, 5])
def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_numbers(task, after, tmp_path):
    expected = whole(task, tmp_path / "whole")
    folder = tmp_path / "interrupted"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        evaluate_split(Oracle(TASKS[task]), evaluation_of(task, folder), on_done=interrupt_after(after))
    done = (after + 1) // 2 * 2
    later, reported = evaluation_of(task, folder), []
    scores = evaluate_split(Oracle(TASKS[task]), later, on_done=reported.append, on_earlier=reported.append)
    assert json.dumps(scores) == json.dumps(expected)
    assert later.images.samples.read == list(range(done, COUNT))
    assert reported[0] == done
    assert sum(reported) == COUNT
    assert records(folder) == records(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_killed_process_loses_at_most_what_it_was_predicting(tmp_path):
    expected = whole("depth", tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    child = os.fork()
    if not child:
        model, passes = Oracle(TASKS["depth"]), []
        model.__class__ = type(
            "Deadly",
            (Oracle,),
            {
                "__call__": lambda self, images: (
                    os.kill(os.getpid(), signal.SIGKILL)
                    if passes.append(1) or len(passes) > 15
                    else Oracle.__call__(self, images)
                )
            },
        )
        evaluate_split(model, evaluation_of("depth", folder, group=1))
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    later = evaluation_of("depth", folder, group=1)
    assert evaluate_split(Oracle(TASKS["depth"]), later) == pytest.approx(expected, nan_ok=True)
    # Two windows and their mirror images an image of 40x56, one window and its mirror image a square one: the
    # sixteenth pass is the last of image 4.
    assert later.images.samples.read == [4, 5, 6]


def test_a_finished_evaluation_predicts_nothing_and_a_restarted_one_everything(tmp_path):
    expected = whole("depth", tmp_path)
    idle, busy = Oracle(TASKS["depth"]), Oracle(TASKS["depth"])
    assert evaluate_split(idle, evaluation_of("depth", tmp_path)) == pytest.approx(expected)
    assert idle.calls == 0
    evaluate_split(busy, evaluation_of("depth", tmp_path), restart=True)
    assert busy.calls > 0


@pytest.mark.parametrize("after", [3, None])
def test_samples_that_have_changed_are_predicted_anew(after, tmp_path):
    """Whether the evaluation was interrupted or has come to its end."""
    (tmp_path / "truth-1").write_text("a mask")
    if after is None:
        whole("segmentation", tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            evaluate_split(
                Oracle(TASKS["segmentation"]),
                evaluation_of("segmentation", tmp_path, group=1),
                on_done=interrupt_after(after),
            )
    (tmp_path / "truth-1").write_text("another mask")
    later = evaluation_of("segmentation", tmp_path, group=1)
    evaluate_split(Oracle(TASKS["segmentation"]), later)
    assert later.images.samples.read == [1, *range(COUNT if after is None else after, COUNT)]


def test_records_of_other_weights_are_never_used(tmp_path):
    """A finished evaluation is done anew, an unfinished one is not thrown away unasked."""
    whole("depth", tmp_path)
    model = Oracle(TASKS["depth"])
    with pytest.raises(KeyboardInterrupt):
        evaluate_split(model, evaluation_of("depth", tmp_path, what=1), on_done=interrupt_after(4))
    assert model.calls > 0
    with pytest.raises(InputError, match="differs in what: choose another --out, or pass --resume never"):
        evaluate_split(model, evaluation_of("depth", tmp_path, what=2))


@pytest.mark.parametrize("task", list(TASKS))
def test_a_changed_record_is_evaluated_again(task, tmp_path):
    """A state changed in per_image.jsonl, finite but impossible, changed the metric without a word."""
    expected = whole(task, tmp_path)
    path = tmp_path / "out/per_image.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = re.sub(r'(?<="state":).*(?=,"sum")', json.dumps(json.loads(lines[4])["state"]), lines[3])
    path.write_text("".join(lines))
    later = evaluation_of(task, tmp_path)
    assert json.dumps(evaluate_split(Oracle(TASKS[task]), later)) == json.dumps(expected)
    assert later.images.samples.read == [2, 3]


def test_records_that_vanish_while_it_runs_are_reported(tmp_path):
    """A folder deleted meanwhile ended in an AssertionError."""

    def delete(count):
        shutil.rmtree(tmp_path / "out")
        (tmp_path / "out").mkdir()

    with pytest.raises(
        InputError, match=r"the records of 7 samples disappeared from .* during evaluation: run the same"
    ):
        evaluate_split(Oracle(TASKS["depth"]), evaluation_of("depth", tmp_path, group=COUNT), on_done=delete)


def test_each_line_names_its_image_and_its_scores(tmp_path):
    whole("segmentation", tmp_path)
    lines = records(tmp_path)
    assert [line["name"] for line in lines] == [f"images/{index}.png" for index in range(COUNT)]
    assert 0 < lines[0]["mIoU"] < 1
    # Image 2 has nothing but ignored pixels.
    assert (lines[2]["mIoU"], lines[2]["state"]) == (None, {"confusion": []})


def test_people_are_named_by_image_and_annotation(tmp_path):
    whole("pose", tmp_path)
    lines = records(tmp_path)
    named = [(f"images/{index // 2}.png", 10 + index) for index in range(COUNT)]
    assert [(line["name"], line["annotation_id"]) for line in lines] == named
    assert all(0 <= line["pck@0.2"] <= 1 for line in lines)


def test_a_failing_image_leaves_the_model_in_its_mode(tmp_path):
    model = Oracle(TASKS["depth"], training=True)
    with pytest.raises(KeyboardInterrupt):
        evaluate_split(model, evaluation_of("depth", tmp_path), on_done=interrupt_after(2))
    assert model.training


def run_process(rank, folder, port):
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)
    )
    torch.set_num_threads(1)
    counts = {}
    try:
        with processes() as together:
            for task in TASKS:
                evaluation = evaluation_of(task, Path(folder, task))
                evaluate_split(Oracle(TASKS[task]), evaluation, processes=together)
                counts[task] = evaluation.images.samples.read
    finally:
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
            del os.environ[name]
    Path(folder, f"{rank}.json").write_text(json.dumps(counts))


def run_second(_, folder, port):
    run_process(1, folder, port)


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this torch has no gloo")
@pytest.mark.slow
def test_two_processes_predict_each_image_once_and_score_as_one(tmp_path):
    """Segmentation was interrupted before, by a single process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for task in TASKS:
        whole(task, tmp_path / f"{task}_alone")
        (tmp_path / task).mkdir()
        evaluation_of(task, tmp_path / task)
    early = evaluation_of("segmentation", tmp_path / "segmentation")
    with pytest.raises(KeyboardInterrupt):
        evaluate_split(Oracle(TASKS["segmentation"]), early, on_done=interrupt_after(2))
    second = multiprocessing.spawn(run_second, (str(tmp_path), port), nprocs=1, join=False)
    run_process(0, str(tmp_path), port)
    second.join()
    for task in TASKS:
        read = [json.loads((tmp_path / f"{rank}.json").read_text())[task] for rank in range(2)]
        assert all(read)
        assert sorted(read[0] + read[1]) == list(range(2 if task == "segmentation" else 0, COUNT))
        alone = tmp_path / f"{task}_alone"
        assert records(tmp_path / task) == records(alone)
        assert (tmp_path / task / "out/metrics.json").read_text() == (alone / "out/metrics.json").read_text()
