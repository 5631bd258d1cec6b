import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from metaprompts.pretraining.array_shards import Rows, write_part
from metaprompts.pretraining.config import Diffusion, Vae
from metaprompts.pretraining.diffusion_stage import DiffusionObjective
from metaprompts.pretraining.sampling import captioned_sheet
from metaprompts.pretraining.train_loop import new_state, step_generators
from metaprompts.recipes.sections import Schedule
from metaprompts.training.data_parallel import ProcessGroup
from metaprompts.training.ema import WeightAverage
from metaprompts.training.lr_schedule import fall_start, learning_rate
from metaprompts.visualize.text import PAPER


class Recorder(torch.nn.Module):
    """Predicts nothing and keeps what it was asked."""

    def forward(self, noisy, timesteps, tokens):
        self.seen = noisy, timesteps, tokens
        return torch.zeros_like(noisy)


def objective(tmp_path, **changes):
    values = np.stack([np.full((2, 1, 2, 2), row, np.float16) for row in range(4)])
    values[:, 1] += 10
    write_part(tmp_path, range(4), values)
    tokens = torch.arange(4)[:, None].repeat(1, 3)
    settings = Diffusion(**{"batch_size": 2000, **changes})
    return DiffusionObjective(Recorder(), Rows(tmp_path, 4), tokens, torch.full((3,), 99), settings, seed=0)


class Knowing(torch.nn.Module):
    """Knows the clean latent, and works the velocity out by hand."""

    def __init__(self, clean):
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        signal = (1 - betas).cumprod(0).sqrt()
        # At the end nothing of the signal is left, at the beginning all that there was.
        self.signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
        self.clean = clean

    def forward(self, noisy, timesteps, tokens):
        signal = self.signal[timesteps].view(-1, 1, 1, 1)
        spread = (1 - signal**2).sqrt()
        noise = (noisy - signal * self.clean) / spread
        return (signal * noise - spread * self.clean).float()


def test_who_knows_the_image_has_no_loss(tmp_path):
    values = np.full((1, 2, 1, 2, 2), 3, np.float16)
    write_part(tmp_path, range(1), values)
    tokens = torch.zeros(1, 3, dtype=torch.long)
    made = DiffusionObjective(Knowing(3.0), Rows(tmp_path, 1), tokens, tokens[0], Diffusion(batch_size=500), seed=0)
    assert made.losses(0)["velocity"].item() < 1e-4
    made.model.clean = 2.5
    assert made.losses(0)["velocity"].item() > 0.1


def test_without_a_guess_the_loss_is_that_of_noise_and_image(tmp_path):
    values = np.zeros((1, 2, 1, 2, 2), np.float16)
    write_part(tmp_path, range(1), values)
    tokens = torch.zeros(1, 3, dtype=torch.long)
    made = DiffusionObjective(Recorder(), Rows(tmp_path, 1), tokens, tokens[0], Diffusion(batch_size=4000), seed=0)
    expected = Knowing(0.0).signal.square().mean().item()
    assert made.losses(0)["velocity"].item() == pytest.approx(expected, abs=0.03)


def test_captions_go_with_their_images_and_some_are_dropped(tmp_path):
    made = objective(tmp_path, drop_caption=0.25)
    made.losses(3)
    noisy, timesteps, tokens = made.model.seen
    assert (tokens == tokens[:, :1]).all()
    dropped = tokens[:, 0] == 99
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert timesteps.min() < 10
    assert timesteps.max() > 990
    # With hardly any noise a latent shows its row and whether it is the mirrored one.
    clear = (timesteps < 20) & ~dropped
    shown = noisy[clear].mean(dim=(1, 2, 3)).round()
    assert (shown % 10 == tokens[clear, 0]).float().mean() > 0.9
    assert {True, False} == set((shown >= 10).tolist())


def test_a_step_always_draws_the_same_and_another_draws_anew(tmp_path):
    made = objective(tmp_path)
    seen = []
    for step in (5, 6, 5):
        made.losses(step)
        seen.append(made.model.seen[0])
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


def test_rng_follows_from_seed_and_step_alone():
    drawn = [step_generators(seed, step) for seed, step in ((0, 1), (0, 1), (1, 0), (0, 2))]
    numbers = [(int(first.integers(2**40)), second.initial_seed()) for first, second in drawn]
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 3


def test_the_average_begins_after_the_first_step_as_pytorchs_does():
    model = torch.nn.Linear(3, 2)

    def average_of(averages, values, count):
        torch._foreach_lerp_(averages, values, 1 - min(0.3, (1 + int(count)) / (10 + int(count))))

    expected, average = AveragedModel(model, multi_avg_fn=average_of), WeightAverage(model, 0.3, begins=1)
    train_state = new_state(model, Vae(), average)
    for _ in range(5):
        with torch.no_grad():
            model.weight += torch.rand(2, 3)
        expected.update_parameters(model)
        train_state.after_step()
    assert torch.equal(average.state()["weight"], expected.module.weight)


def test_the_learning_rate_holds_and_then_falls():
    schedule = Schedule(kind="warmup_stable_decay", decay_fraction=0.4, warmup_steps=2, warmup_start_factor=0.5)
    lr = [learning_rate(step, steps=10, lr=1.0, schedule=schedule) for step in range(11)]
    assert lr[:7] == pytest.approx([0.5, 0.75, 1, 1, 1, 1, 1])
    assert lr[8] == pytest.approx(0.5)
    assert lr[7] > lr[8] > lr[9] > lr[10]
    assert lr[10] == pytest.approx(0)
    assert fall_start(10, 0.4) == 6
    assert fall_start(3, 0.01) == 2


def test_a_sheet_shows_every_image_over_its_words():
    images = np.zeros((5, 64, 96, 3), np.uint8)
    sheet = captioned_sheet(images, ["a long caption " * 6] * 4 + ["short"])
    black = (sheet == 0).all(axis=-1).sum()
    assert black == pytest.approx(5 * 4 * 64 * 96, abs=200)
    assert (sheet[-8:] == PAPER).all()


def test_peers_share_a_batch_out_without_changing_it(tmp_path):
    whole = objective(tmp_path, batch_size=8)
    whole.losses(5)
    halves = [objective(tmp_path, batch_size=8) for _ in range(2)]
    for rank, half in enumerate(halves):
        half.process_group = ProcessGroup(rank, 2)
        half.losses(5)
        for target, found in zip(whole.model.seen, half.model.seen, strict=True):
            assert torch.equal(found, target[rank::2])
