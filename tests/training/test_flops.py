"""Operations are counted as PyTorch's own counter does, and by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from metaprompts.training.flops import Flops
from small import small_model, smooth_images


def test_by_hand():
    """A product of 7x3 and 3x5 is 105 multiplications and as many additions; its weights' gradient the same again."""
    layer, rows = torch.nn.Linear(3, 5, bias=False), torch.ones(7, 3)
    with Flops() as flops:
        layer(rows).sum().backward()
    assert flops.total == 2 * 210


@pytest.mark.slow
def test_a_model_counts_as_pytorchs_counter_says():
    model, images = small_model("depth").train(), smooth_images(1, 64, 64)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    with Flops() as flops:
        model(images).sum().backward()
    assert flops.total == counter.get_total_flops() > 10**8
