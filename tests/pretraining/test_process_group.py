"""Two processes must learn what one does."""

import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.pretraining.pretrain import pretrain
from metaprompts.training.data_parallel import SINGLE_PROCESS, ProcessGroup, training_together
from metaprompts.utils.callbacks import Callback
from pretraining.drawn import DiesOnArrival, average_of_ranks, rectangle, small_settings

STEPS = 5


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_step_end(self, model, step, losses, *, lr, images, seconds):
        self.seen.append(losses["velocity"])


def learn_diffusion(run, out, **changes):
    """Train the diffusion stage after the earlier stages of ``run``; its losses and last checkpoint."""
    out.mkdir()
    for earlier in ("scenes", "vae", "latents", "text"):
        (out / earlier).symlink_to(run / earlier)
    progress = Losses()
    settings = small_settings(out, diffusion={"steps": STEPS, "batch_size": 4, "lr": 1e-2}, **changes)
    pretrain(settings, progress, stage="diffusion", source=rectangle)
    return progress.seen, torch.load(out / f"diffusion/{STEPS:08d}.pt", weights_only=True)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(run, tmp_path):
    losses, state = learn_diffusion(run, tmp_path / "one")
    shared_losses, shared = learn_diffusion(run, tmp_path / "two", processes=2)
    assert shared_losses == pytest.approx(losses, rel=1e-3)
    for name, expected in state["average"].items():
        torch.testing.assert_close(shared["average"][name], expected, rtol=1e-2, atol=1e-3)
    assert shared["step"] == STEPS
    assert (tmp_path / "two/diffusion/finished.json").is_file()


def test_a_batch_must_be_divisible(tmp_path):
    with pytest.raises(InputError, match="processes is 3; expected a divisor"):
        small_settings(tmp_path / "run", processes=3)


@pytest.mark.slow
def test_an_average_is_taken_over_all():
    with training_together(2, average_of_ranks) as process_group:
        numbers, more = average_of_ranks(process_group)
    assert numbers.tolist() == [[0.5] * 3] * 2
    assert more.tolist() == [5.0]


def test_alone_nothing_is_shared():
    batch = torch.arange(4)
    assert torch.equal(SINGLE_PROCESS.share(batch), batch)
    SINGLE_PROCESS.average([batch])
    assert batch.tolist() == [0, 1, 2, 3]
    assert not ProcessGroup(1, 2).is_first


@pytest.mark.slow
def test_a_process_that_cannot_begin_is_not_waited_for():
    with (
        pytest.raises(RuntimeError, match="training process 1 exited during startup"),
        training_together(2, print, DiesOnArrival()),
    ):
        pass
