import torch
from torch import nn

from metaprompts.training.ema import WeightAverage, decay_at


def test_the_average_follows_the_weights_and_takes_their_place_for_a_while():
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.75)
    with torch.no_grad():
        model.weight.fill_(5.0)
    average.update(100)
    with average.in_place():
        assert model.weight.item() == 2.0
    assert model.weight.item() == 5.0
    average.update(101)
    assert average.state()["weight"].item() == 2.75
    assert list(average.state()) == ["weight"]


def test_a_loaded_average_goes_on():
    model = nn.Linear(1, 1)
    first = WeightAverage(model, 0.5)
    with torch.no_grad():
        model.weight += 1
    first.update(1)
    second = WeightAverage(model, 0.5)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for average in (first, second):
        average.update(2)
    assert torch.equal(first.state()["weight"], second.state()["weight"])


def test_the_first_weights_are_forgotten():
    """With a decay of 0.999 a depth model of 2,000 steps was validated with d1 0.23: its own weights had 0.82."""
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.999)
    with torch.no_grad():
        model.weight.fill_(0.0)
    for step in range(1, 41):
        average.update(step)
    # Of (1 + k) / (10 + k), k = 1 to 40, the product is 10! * 41! / 50!.
    assert 0 < average.state()["weight"].item() < 1e-5
    assert decay_at(1, 0.999) == 2 / 11
    assert decay_at(10**6, 0.999) == 0.999
