"""What a log file gets to see of progress; terminals get bars."""

import pytest
from torch import nn

from metaprompts.utils import progress
from metaprompts.utils.progress import ConsoleProgress, ProgressBar, tracked


def test_items_pass_in_silence_for_half_a_minute(capsys):
    assert list(tracked(iter("ab"), what="drawing")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_then_each_line_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.0)
    assert list(tracked("ab", what="drawing")) == ["a", "b"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["drawing 1/2", "drawing 2/2"]
    assert lines[-1] == "drawing 2/2  0:00 left"


@pytest.mark.parametrize("quiet", [False, True])
def test_what_an_earlier_run_has_done_counts(capsys, monkeypatch, quiet):
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.0)
    with ProgressBar("evaluating", 5, quiet=quiet) as bar:
        bar.resumed(3)
        bar.advance(2)
    lines = capsys.readouterr().err.splitlines()
    first = "evaluating: 3 of 5 already done; pass --resume never to discard them"
    assert lines == ([] if quiet else [first, "evaluating 3/5", "evaluating 5/5  0:00 left"])


def test_every_fiftieth_step_of_a_training_is_a_line(capsys):
    reporter = ConsoleProgress()
    model = nn.Linear(999, 1000)
    reporter.on_train_begin(model, 60, "a step: 2 images")
    for step in range(1, 61):
        loss = 2.0 if step <= 50 else 3.0
        reporter.on_step_end(model, step, {"total": loss}, lr=0.1, images=2, seconds=0.5, waited=0.1)
    assert list(reporter.on_validation_begin([1, 2])) == [1, 2]
    reporter.on_validation_end(model, 60, {"step": 60, "mIoU": 0.5})
    reporter.on_train_end()
    facts = "(mean of 50 steps)  lr 1.00e-01  4.0 images/s  20% waiting"
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["1.0 M parameters, 1.0 M trained, 60 steps", "a step: 2 images"]
    # The loss is smoothed, and the line says so.
    expected = [f"step 50/60  loss 2.0000 {facts}", f"step 60/60  loss 2.2000 {facts}"]
    assert [line[: len(expected[0])] for line in lines[2:4]] == expected
    assert lines[4:] == ["validation at step 60: mIoU 0.5000"]


def test_slow_steps_have_an_estimate_of_the_time_left(capsys, monkeypatch):
    """Steps of a minute, as on a CPU, never said how much time was left: only the last half minute was looked at."""
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.0)
    bar = ProgressBar("step", 5)
    now = [0.0]
    bar._progress.get_time = bar._progress.tasks[0]._get_time = lambda: now[0]
    with bar:
        for step in (1, 2, 3):
            now[0] = 60.0 * step
            bar.update(step)
    assert capsys.readouterr().err.splitlines()[-1] == "step 3/5  2:00 left"
