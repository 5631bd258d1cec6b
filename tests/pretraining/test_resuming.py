"""Stopped and resumed runs must end, bit for bit, as one that was not."""

import copy
import dataclasses

import pytest
import torch

from interrupted import KilledAt, KilledError, dead_scratch
from metaprompts.errors import InputError
from metaprompts.pretraining.pretrain import pretrain
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.checkpoint_files import checkpoints_in, write_state
from pretraining.drawn import rectangle, small_settings
from slow import slow_except

STEPS = {"vae": {"steps": 6, "decay_fraction": 0.5}, "diffusion": {"steps": 6, "decay_fraction": 0.25}}


def settings(run, out, stage, **changes):
    """Settings of one more run, with the earlier stages of ``run``."""
    for earlier in ("scenes", *(("vae", "latents", "text") if stage == "diffusion" else ())):
        if not (out / earlier).exists():
            out.mkdir(parents=True, exist_ok=True)
            (out / earlier).symlink_to(run / earlier)
    return small_settings(out, **{stage: {**STEPS[stage], **changes}}, checkpoint_seconds=0.0)


def go(made, stage, progress=None):
    pretrain(made, progress or Callback(), stage=stage, source=rectangle)
    return torch.load(checkpoints_in(made.out / stage)[0], weights_only=True)


def stop(made, stage, step):
    with pytest.raises(KilledError):
        go(made, stage, KilledAt(step))


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.fixture(scope="module", params=slow_except(["vae", "diffusion"], "vae"))
def straight(request, run, tmp_path_factory):
    """The stage, its run folder and its last state, trained in one go."""
    out = tmp_path_factory.mktemp("straight") / "run"
    return request.param, out, go(settings(run, out, request.param), request.param)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(straight, run, tmp_path):
    stage, out, expected = straight
    stop(settings(run, tmp_path / "run", stage), stage, 3)
    assert_same(go(settings(run, tmp_path / "run", stage), stage), expected)
    for weights in (out / stage / "model").rglob("*.safetensors"):
        relative = weights.relative_to(out)
        assert (tmp_path / "run" / relative).read_bytes() == weights.read_bytes()


@pytest.mark.slow
def test_a_finished_training_made_longer_ends_as_a_long_one(straight, run, tmp_path):
    """It goes on from before the learning rate fell, not from where it had come to nothing."""
    stage, _, expected = straight
    shorter = settings(run, tmp_path / "run", stage, steps=4)
    assert go(shorter, stage)["step"] == 4
    assert_same(go(settings(run, tmp_path / "run", stage), stage), expected)


def test_a_finished_stage_is_not_touched(straight, run):
    stage, out, _ = straight
    before = {path: path.stat().st_mtime_ns for path in (out / stage).rglob("*")}
    go(settings(run, out, stage, steps=4), stage)
    assert before == {path: path.stat().st_mtime_ns for path in (out / stage).rglob("*")}


@pytest.mark.slow
def test_a_damaged_checkpoint_gives_way_to_the_one_before(straight, run, tmp_path):
    stage, _, expected = straight
    made = settings(run, tmp_path / "run", stage)
    stop(made, stage, 4)
    newest = tmp_path / "run" / stage / "00000004.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    # What a killed writer left.
    (newest.parent / dead_scratch(newest.name)).write_bytes(b"half")
    assert_same(go(made, stage), expected)
    assert not list(newest.parent.glob(".*"))


def test_checkpoints_that_are_all_damaged_are_one_error(run, tmp_path):
    made = settings(run, tmp_path / "run", "vae")
    stop(made, "vae", 3)
    for path in checkpoints_in(tmp_path / "run/vae"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"all checkpoints are damaged: .*00000003\.pt, .*00000002\.pt; delete them"):
        go(made, "vae")


@pytest.fixture(scope="module")
def stopped(run, tmp_path_factory):
    """Settings, the newest checkpoint of their stopped run, and what that holds."""
    made = settings(run, tmp_path_factory.mktemp("stopped") / "run", "vae")
    stop(made, "vae", 3)
    path = made.out / "vae/00000003.pt"
    return made, path, torch.load(path, weights_only=True)


@pytest.mark.parametrize("part", ["step", "steps", "model", "average", "optimizer", "moments", "missing"])
def test_a_checkpoint_without_a_part_is_refused_by_name(stopped, part):
    """Without moments, a run went on with fresh ones, without a word."""
    made, path, state = stopped
    state = copy.deepcopy(state)
    if part == "moments":
        state["optimizer"]["state"].popitem()
    elif part == "missing":
        state["model"].popitem()
    else:
        del state[part]
    write_state(path, state)
    with pytest.raises(InputError, match=rf"00000003.pt is not an intact checkpoint of this run \(its? .*{part}"):
        go(made, "vae")


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(stopped):
    """Its moments had numbers, not names: it was called damaged, with the names of all parameters."""
    made, path, state = stopped
    moments = dict(enumerate(state["optimizer"]["state"].values()))
    write_state(path, {**state, "optimizer": {**state["optimizer"], "state": moments}})
    with pytest.raises(
        InputError,
        match=r"00000003.pt was written by an earlier version, which .* delete .*vae to start the stage over",
    ):
        go(made, "vae")


@pytest.mark.slow
def test_a_checkpoint_of_another_architecture_is_refused(run, tmp_path):
    made = settings(run, tmp_path / "run", "vae")
    stop(made, "vae", 3)
    with pytest.raises(InputError, match="differs from this run in architecture"):
        go(dataclasses.replace(made, architecture=None), "vae")


@pytest.mark.slow
def test_the_losses_of_a_resumed_training_are_each_there_once(run, tmp_path):
    made = settings(run, tmp_path / "run", "vae")
    stop(made, "vae", 5)
    go(made, "vae")
    lines = (tmp_path / "run/vae/losses.jsonl").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [f'{{"step":{step}' for step in range(1, 7)]
