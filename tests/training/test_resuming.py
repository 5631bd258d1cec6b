"""A stopped run must end, bit for bit, as one that was not stopped."""

import copy
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from interrupted import dead_scratch
from metaprompts.errors import InputError
from metaprompts.models.loading import load
from metaprompts.tasks import Depth, Segmentation
from metaprompts.training.build_model import build_model
from metaprompts.training.checkpoints import changed_keys
from metaprompts.training.loop import train
from metaprompts.training.ranking import validations_since_best
from metaprompts.training.signals import TrainingStopped, noticing_signals
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.checkpoint_files import first_whole_state, write_state
from slow import slow_except
from training.images import made_recipe

pytestmark = pytest.mark.usefixtures("interruptible")

STEPS = 7

# Every step, as good as: so that there is always one to go on from.
OFTEN = ("--training.checkpoint_seconds", "0", "--training.steps", str(STEPS), "--training.validate_every", "3")


class SignalAt(Callback):
    """Ends the training after a step, as a user or a cluster would."""

    def __init__(self, step, number=signal.SIGTERM):
        self.last, self.number = step, number

    def on_step_end(self, model, step, losses, *, lr, images, seconds, waited):
        if step == self.last:
            os.kill(os.getpid(), self.number)


def recipe(task, images, out, *overrides):
    # Dropout draws from the generator that a checkpoint holds.
    more = ["--task.dropout", "0.1"] if task == "segmentation" else ["--training.ema_decay", "0.9"]
    return made_recipe(task, images, out, *OFTEN, *more, *overrides)


def weights(out):
    return (out / "last/model.safetensors").read_bytes()


def numbers(out):
    return json.loads((out / "metrics.json").read_text())


def logged(out):
    """The log, less what the clock says."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "waited")} for line in lines]


@pytest.fixture(scope="module", params=["depth", pytest.param("segmentation", marks=pytest.mark.full)])
def straight(request, images, tmp_path_factory):
    """A task, and the folder of a run that was not stopped."""
    out = tmp_path_factory.mktemp("straight") / "run"
    train(recipe(request.param, images, out))
    return request.param, out


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        # SIGTERM is that of the other tests here.
        (signal.SIGINT, 0),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.full),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.full),
    ],
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(straight, images, tmp_path, number, workers):
    """Stopped within an epoch of two steps, after a validation, and with other workers."""
    task, expected = straight
    made = recipe(task, images, tmp_path / "run", "--data.num_workers", str(workers))
    for step in (1, 3, 6):
        with pytest.raises(TrainingStopped, match=f"stopped at step {step} of {STEPS}"):
            train(made, [SignalAt(step, number)], resume="auto")
        assert (tmp_path / "run/curves.png").is_file()
    train(made, resume="auto")
    assert weights(tmp_path / "run") == weights(expected)
    assert numbers(tmp_path / "run") == numbers(expected)
    assert logged(tmp_path / "run") == logged(expected)


def test_a_finished_training_is_not_trained_again(straight, images):
    task, out = straight
    before = weights(out)
    history = train(recipe(task, images, out), [SignalAt(1)], resume="auto")
    assert weights(out) == before
    assert history.best == numbers(out)["best"]
    assert [path.name for path in (out / "checkpoints").iterdir()] == [f"{STEPS:08d}.pt"]


CONSTANT = ("--schedule.kind", "constant", "--schedule.warmup_fraction", "none")


@pytest.mark.slow
def test_a_finished_training_goes_on_with_more_steps(images, tmp_path, caplog):
    """It was refused: a run of too few steps had to be started over."""
    words = (*CONSTANT, "--training.validate_every", "2")
    train(recipe("depth", images, tmp_path / "once", *words))
    train(recipe("depth", images, tmp_path / "twice", *words, "--training.steps", "4"))
    caplog.clear()
    train(recipe("depth", images, tmp_path / "twice", *words), resume="auto")
    assert weights(tmp_path / "twice") == weights(tmp_path / "once")
    assert numbers(tmp_path / "twice") == numbers(tmp_path / "once")
    assert logged(tmp_path / "twice") == logged(tmp_path / "once")
    assert "resuming from step 4 to 7, not to 4 as before: schedule constant over 7 steps, learning" in caplog.text
    fewer = recipe("depth", images, tmp_path / "twice", *words, "--training.steps", "5")
    with pytest.raises(InputError, match="has 7 steps already, but this run would have 5: give more"):
        train(fewer, resume="auto")


class Notes(Callback):
    def __init__(self):
        self.lines = []

    def on_message(self, lines):
        self.lines += lines


@pytest.mark.slow
def test_early_stopping_stops_where_it_would_have_without_interruption(images, tmp_path):
    """With a learning rate of next to nothing no validation is better than the first."""
    words = ("--training.early_stopping", "2", "--training.validate_every", "1", "--optimizer.lr", "1e-30")
    notes = Notes()
    history = train(recipe("depth", images, tmp_path / "once", *words), [notes])
    assert len(history.validations) < STEPS
    assert (
        f"stopped early at step {history.validations[-1]['step']} of {STEPS}: rmse has not improved" in notes.lines[-1]
    )
    assert logged(tmp_path / "once")[-1] == {"step": history.validations[-1]["step"], "early_stopping": 2}
    made = recipe("depth", images, tmp_path / "twice", *words)
    with pytest.raises(TrainingStopped):
        train(made, [SignalAt(2)])
    train(made, resume="auto")
    assert weights(tmp_path / "twice") == weights(tmp_path / "once")
    assert logged(tmp_path / "twice") == logged(tmp_path / "once")
    # It is finished, and goes on where nothing is to stop it.
    notes = Notes()
    assert train(made, [notes], resume="auto").validations == history.validations
    assert notes.lines[-1].startswith("nothing to do")
    without = recipe("depth", images, tmp_path / "twice", *words, "--training.early_stopping", "none")
    assert train(without, resume="auto").validations[-1]["step"] == STEPS


def test_validations_since_the_best_are_counted():
    def since(*scores):
        return validations_since_best(Segmentation, [{"mIoU": score} for score in scores])

    assert since() == 0
    assert since(0.2, 0.3, 0.3, 0.1) == 2
    assert since(float("nan"), 0.1) == 0
    assert since(float("nan"), float("nan")) == 2
    assert validations_since_best(Depth, [{"rmse": 2.0}, {"rmse": 1.0}, {"rmse": 1.5}]) == 1


@pytest.mark.slow
def test_an_unfinished_training_is_not_written_over_unasked(images, tmp_path):
    made = recipe("depth", images, tmp_path / "run")
    with pytest.raises(TrainingStopped):
        train(made, [SignalAt(2)])
    with pytest.raises(InputError, match=rf"stopped at step 2 of {STEPS}: pass --resume auto to resume"):
        train(made)
    train(made, resume="never")
    assert [entry["step"] for entry in logged(tmp_path / "run") if "total" in entry] == list(range(1, STEPS + 1))


def test_another_recipe_is_refused_by_its_keys(images, tmp_path):
    with pytest.raises(TrainingStopped):
        train(recipe("depth", images, tmp_path / "run"), [SignalAt(2)])
    other = recipe("depth", images, tmp_path / "run", "--task.width", "24", "--training.batch_size", "1")
    with pytest.raises(
        InputError, match=r"differs from this run in task\.width, training\.batch_size: use the same value"
    ):
        train(other, resume="auto")


def without(*path):
    def change(state):
        for name in path[:-1]:
            state = state[name]
        del state[path[-1]]

    return change


def first(mapping):
    return next(iter(mapping))


@pytest.fixture(scope="module")
def stopped(images, tmp_path_factory):
    """A recipe, the only checkpoint of its stopped run, and what that holds."""
    made = recipe("depth", images, tmp_path_factory.mktemp("stopped") / "run", "--training.save_total_limit", "1")
    with pytest.raises(TrainingStopped):
        train(made, [SignalAt(2)])
    (path,) = (made.training.output_dir / "checkpoints").iterdir()
    return made, path, torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("state", "model"), "it has no model"),
        *slow_except(
            [
                (without("state"), "it has no state"),
                (without("rng_state"), "it has no rng_state"),
                (without("recipe"), "it has no recipe"),
                (without("state", "optimizer"), "it has no optimizer"),
                (without("state", "average"), "it has no average"),
                (without("state", "validation_due"), "it has no validation_due"),
            ]
        ),
        pytest.param(
            lambda s: s["state"]["model"].pop(first(s["state"]["model"])),
            "its model has 1 missing: ",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda s: s["state"]["average"].clear(), "its average has ", marks=pytest.mark.slow),
        (lambda s: s["state"]["optimizer"]["state"].clear(), "its optimizer has no moments of "),
        (lambda s: s["state"]["optimizer"]["state"].pop("prompts.sets.0"), "no moments of prompts.sets.0)"),
        (
            lambda s: s["state"]["optimizer"]["state"]["prompts.sets.0"].update(exp_avg=torch.ones(7)),
            "1 of the wrong shape: exp_avg is 7",
        ),
        (lambda s: s["rng_state"][0].update(cpu=torch.ones(3)), "its rng_state has 1 of the wrong shape"),
        pytest.param(lambda s: s.update(step=-1), "its counts are", marks=pytest.mark.slow),
        (lambda s: s.update(recipe=5), "not an intact checkpoint"),
        (lambda s: s.update(history={"odd": 1}), "not an intact checkpoint"),
    ],
)
def test_a_checkpoint_without_a_part_is_refused_by_name(stopped, change, message):
    """Without its model, moments or all of its state, a run went on with fresh weights, without a word."""
    made, path, state = stopped
    state = copy.deepcopy(state)
    change(state)
    write_state(path, state)
    with pytest.raises(InputError) as caught:
        train(made, resume="auto")
    assert f"{path} is not an intact checkpoint of this run (" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_machine_decides_may_change():
    found = {
        "training": {"output_dir": "a", "num_threads": 1, "steps": 5},
        "data": {"root": "x", "num_workers": 0, "train": "t"},
    }
    expected = {
        "training": {"output_dir": "b", "num_threads": 2, "steps": 5},
        "data": {"root": "y", "num_workers": 2, "train": "t"},
    }
    assert changed_keys(found, expected) == []
    assert changed_keys(found, {**expected, "task": {"width": 3}}) == ["task.width"]


@pytest.mark.slow
def test_only_the_last_checkpoints_stay_and_a_damaged_one_gives_way(images, tmp_path, straight):
    task, expected = straight
    made = recipe(task, images, tmp_path / "run", "--training.save_total_limit", "3")
    with pytest.raises(TrainingStopped):
        train(made, [SignalAt(5)])
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == [f"{step:08d}.pt" for step in (3, 4, 5)]
    newest = tmp_path / "run/checkpoints" / names[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    train(made, resume="auto")
    assert weights(tmp_path / "run") == weights(expected)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_from_what_is_whole(straight, images, tmp_path):
    """SIGKILL, while a checkpoint is written too."""
    task, expected = straight
    made = recipe(task, images, tmp_path / "run")
    (tmp_path / "recipe.json").write_text(json.dumps(made.to_dict()))
    command = [sys.executable, "-m", "metaprompts", "train", str(tmp_path / "recipe.json"), "--resume", "auto"]
    folder = tmp_path / "run/checkpoints"
    # It takes seconds to begin; `make test-full` has twenty.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(folder.glob("*.pt")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    train(made, resume="auto")
    assert weights(tmp_path / "run") == weights(expected)
    assert load(tmp_path / "run/last").config == load(expected / "last").config


@pytest.mark.full
def test_twenty_kills_at_random_moments_change_nothing(images, tmp_path):
    """While steps are taken, checkpoints and models written; the newest checkpoint is whole each time."""
    words = ("--training.steps", "90", "--training.validate_every", "5")
    train(recipe("depth", images, tmp_path / "straight", *words))
    made = recipe("depth", images, tmp_path / "run", *words)
    (tmp_path / "recipe.json").write_text(json.dumps(made.to_dict()))
    command = [sys.executable, "-m", "metaprompts", "train", str(tmp_path / "recipe.json"), "--resume", "auto"]
    log, moments = tmp_path / "run/log.jsonl", random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = log.stat().st_mtime_ns if log.exists() else 0
        while process.poll() is None and (not log.exists() or log.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.6))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was finished before it could be killed"
        assert first_whole_state(sorted((tmp_path / "run/checkpoints").glob("[0-9]*.pt"), reverse=True)[:1])
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")
    assert logged(tmp_path / "run") == logged(tmp_path / "straight")


def test_a_full_disk_is_one_error_and_leaves_the_former_checkpoint(tmp_path):
    path = tmp_path / "state.pt"
    write_state(path, {"weights": torch.arange(10.0)})
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, former[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*state\.pt: .*nothing was changed"):
            write_state(path, {"weights": torch.rand(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert first_whole_state([path])[1]["weights"].tolist() == list(range(10))
    assert [each.name for each in tmp_path.iterdir()] == ["state.pt"]


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with noticing_signals() as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert request.signal is None


def test_a_later_signal_ends_at_once():
    with noticing_signals() as request:
        os.kill(os.getpid(), signal.SIGINT)
        # torchrun hands on what a terminal has sent to all: that is the same signal.
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == signal.SIGINT
        request.noticed -= 60
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_a_checkpoint_that_knows_fewer_keys_goes_on(images, tmp_path):
    """Keys that came later have their defaults: an unfinished run outlives a new version."""
    made = recipe("depth", images, tmp_path / "run")
    with pytest.raises(TrainingStopped):
        train(made, [SignalAt(2)])
    path, state = first_whole_state(sorted((tmp_path / "run/checkpoints").glob("*.pt"))[::-1])
    for section, key in (("prompts", "kind"), ("prompts", "labels"), ("data", "captions")):
        del state["recipe"][section][key]
    write_state(path, state)
    assert train(made, resume="auto").validations[-1]["step"] == STEPS


def test_a_resumed_training_needs_no_initial_weights(images, tmp_path, caplog):
    """Its warning about weights that do not fit came again, although the checkpoint holds all weights."""
    build_model(recipe("depth", images, tmp_path)).save(tmp_path / "first")
    words = ("--training.init_from", str(tmp_path / "first"), "--task.max_depth_m", "5")
    train(recipe("depth", images, tmp_path / "straight", *words))
    with pytest.raises(TrainingStopped):
        train(recipe("depth", images, tmp_path / "run", *words), [SignalAt(2)])
    assert caplog.text.count("predicts up to") == 2
    caplog.clear()
    shutil.rmtree(tmp_path / "first")
    train(recipe("depth", images, tmp_path / "run", *words), resume="auto")
    assert "predicts up to" not in caplog.text
    assert weights(tmp_path / "run") == weights(tmp_path / "straight")


@pytest.mark.slow
def test_a_new_training_takes_the_place_of_a_finished_one(images, tmp_path):
    """The old one's last checkpoint had a higher number, and counted as the newest."""
    train(recipe("depth", images, tmp_path / "run"))
    with pytest.raises(TrainingStopped):
        train(recipe("depth", images, tmp_path / "run", "--training.save_total_limit", "1"), [SignalAt(2)])
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["00000002.pt"]


def test_a_changed_byte_is_noticed(tmp_path):
    """PyTorch itself reads a tensor whose bytes have changed on the disk."""
    path = tmp_path / "state.pt"
    write_state(path, {"weights": torch.full((1000,), 1.5)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.tensor(1.5).numpy().tobytes() * 8) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="all checkpoints are damaged"):
        first_whole_state([path])


@pytest.mark.slow
def test_steps_before_a_failed_validation_are_kept(images, tmp_path, straight):
    """Before, all since the last checkpoint were lost with it, and a signal had to wait for its end."""

    class Failing(Callback):
        def on_validation_begin(self, batches):
            raise InputError("a broken image")

    task, expected = straight
    made = recipe(task, images, tmp_path / "run", "--training.checkpoint_seconds", "3600")
    with pytest.raises(InputError, match="a broken image"):
        train(made, [Failing()])
    train(made, resume="auto")
    assert weights(tmp_path / "run") == weights(expected)
    assert numbers(tmp_path / "run") == numbers(expected)
    assert logged(tmp_path / "run") == logged(expected)


def test_what_a_killed_writer_left_is_removed(images, tmp_path):
    """Scratch files of checkpoints, gigabytes at full width, stayed for ever."""
    left = tmp_path / "run/checkpoints" / dead_scratch("00000002.pt")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with pytest.raises(TrainingStopped):
        train(recipe("depth", images, tmp_path / "run"), [SignalAt(1)], resume="auto")
    assert not left.exists()
