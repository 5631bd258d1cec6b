import pytest
import torch
from torch import nn

from metaprompts.modules.meta_prompts import RecurrentRefinement


class Unet(nn.Module):
    """Adds time and prompt to the latent, halves it on the way back, and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, latent, time, prompts):
        self.seen.append((latent, time, prompts))
        return [latent + time.sum() + prompts.sum(), latent[..., :1, :1]]

    def to_latent(self, finest):
        return finest / 2


def refine(steps, modulated_time):
    refinement = RecurrentRefinement(steps, 3, modulated_time=modulated_time)
    prompts = [torch.full((1, 2, 2), float(10 * step)) for step in range(steps)]
    latent = torch.ones(1, 4, 2, 2, requires_grad=True)
    unet = Unet()
    return refinement, unet, latent, prompts, refinement(unet, latent, prompts)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_output_goes_back_in_and_each_step_has_its_time_and_prompts(steps):
    refinement, unet, latent, prompts, pyramid = refine(steps, modulated_time=True)
    assert len(unet.seen) == len(refinement.time) == steps
    value = latent
    for step, (given, time, context) in enumerate(unet.seen):
        torch.testing.assert_close(given, value)
        assert time is refinement.time[step]
        assert context is prompts[step]
        finest = value + time.sum() + context.sum()
        value = finest / 2
    torch.testing.assert_close(pyramid[0], finest)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_without_modulation_all_steps_share_a_time_vector(steps):
    refinement, unet, *_ = refine(steps, modulated_time=False)
    assert len(refinement.time) == 1
    assert all(time is refinement.time[0] for _, time, _ in unet.seen)


def test_gradients_flow_through_all_steps():
    """d out / d time_k is 4 latent channels x 4 pixels, halved for each step that it is carried on."""
    refinement, _, latent, _, pyramid = refine(3, modulated_time=True)
    pyramid[0].sum().backward()
    assert [time.grad[0, 0].item() for time in refinement.time] == [4, 8, 16]
    assert torch.equal(latent.grad, torch.full_like(latent, 0.25))


def test_every_steps_pyramid_can_be_watched():
    refinement, unet, latent, prompts, last = refine(3, modulated_time=True)
    watched = list(refinement.pyramids(unet, latent, prompts))
    assert len(watched) == 3
    torch.testing.assert_close(watched[-1], last)
    assert not torch.equal(watched[0][0], watched[1][0])


def test_a_detached_step_has_no_gradient_of_those_before_it():
    """The latent's gradient comes through every step's input; detached, the last step knows of no other."""
    refinement = RecurrentRefinement(2, 3, modulated_time=True, detach=True)
    latent = torch.ones(1, 4, 2, 2, requires_grad=True)
    pyramid = refinement(Unet(), latent, [torch.zeros(1, 2, 2)] * 2)
    pyramid[0].sum().backward()
    assert latent.grad is None
    assert refinement.time[0].grad is None
    assert refinement.time[1].grad is not None


def test_a_matched_output_has_the_latents_mean_and_spread():
    """Fed back, the output's spread differs from the latent's by a factor that nothing in the UNet's training fixed."""
    torch.manual_seed(0)
    refinement = RecurrentRefinement(2, 3, modulated_time=True, match_latent=True)
    latent = 5 * torch.randn(2, 4, 8, 8) + 3
    matched = refinement.next_latent(Unet(), torch.randn(2, 4, 8, 8) * 100, latent)
    torch.testing.assert_close(matched.mean(dim=(-2, -1)), latent.mean(dim=(-2, -1)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(matched.std(dim=(-2, -1)), latent.std(dim=(-2, -1)), rtol=1e-3, atol=1e-3)
