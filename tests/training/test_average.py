import torch
from torch import nn

from metaprompts.training.average import WeightAverage


def test_the_average_follows_the_weights_and_takes_their_place_for_a_while():
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.75)
    with torch.no_grad():
        model.weight.fill_(5.0)
    average.update()
    with average.in_place():
        assert model.weight.item() == 2.0
    assert model.weight.item() == 5.0
    average.update()
    assert average.state()["weight"].item() == 2.75
    assert list(average.state()) == ["weight"]


def test_a_loaded_average_goes_on():
    model = nn.Linear(1, 1)
    first = WeightAverage(model, 0.5)
    with torch.no_grad():
        model.weight += 1
    first.update()
    second = WeightAverage(model, 0.5)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for average in (first, second):
        average.update()
    assert torch.equal(first.state()["weight"], second.state()["weight"])
