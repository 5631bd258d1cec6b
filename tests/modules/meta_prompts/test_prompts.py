import pytest
import torch

from metaprompts.modules.meta_prompts import MetaPrompts


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("per_step", [False, True])
def test_each_step_has_its_prompts(per_step, adapter):
    prompts = MetaPrompts(5, 8, steps=3, per_step=per_step, adapter=adapter)
    steps = prompts(batch=2)
    assert [tuple(each.shape) for each in steps] == [(2, 5, 8)] * 3
    assert all(torch.equal(each[0], each[1]) for each in steps)
    assert torch.equal(steps[0], steps[1]) != per_step
    assert torch.equal(steps[1], steps[2]) != per_step


def test_raw_prompts_are_the_parameters():
    prompts = MetaPrompts(5, 8, steps=2, per_step=True, adapter=False)
    for step, each in enumerate(prompts(batch=1)):
        assert torch.equal(each[0], prompts.sets[step])


def test_an_adapter_is_two_layers_with_gelu_and_no_residual():
    prompts = MetaPrompts(5, 8, steps=2, per_step=True, adapter=True)
    for step, each in enumerate(prompts(batch=1)):
        first, _, second = prompts.adapters[step]
        hidden = prompts.sets[step] @ first.weight.T + first.bias
        # GELU by its definition: x times the normal distribution's share below x.
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        torch.testing.assert_close(each[0], hidden @ second.weight.T + second.bias, rtol=1e-5, atol=1e-6)


def test_prompts_start_from_the_standard_normal():
    torch.manual_seed(0)
    values = MetaPrompts(150, 768, steps=1, per_step=False, adapter=False).sets[0].detach()
    assert values.mean().abs() < 0.02
    assert values.std() == pytest.approx(1, abs=0.02)
