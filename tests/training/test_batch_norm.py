import pytest
import torch
from torch import nn

from metaprompts.training.batch_norm import FrozenBatchNorm, SynchronizedBatchNorm, configure_batch_norm


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize(("statistics", "kind"), [("sync", SynchronizedBatchNorm), ("frozen", FrozenBatchNorm)])
def test_names_weights_and_statistics_stay(statistics, kind):
    model = layers()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weight = model[1].weight
    configure_batch_norm(model, statistics)
    assert type(model[1]) is kind
    assert model[1].weight is weight
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_frozen_statistics_survive_training():
    model = layers()
    configure_batch_norm(model, "frozen")
    images = torch.randn(2, 3, 8, 8) * 5 + 3
    before = model.eval()(images)
    after = model.train()(images)
    assert torch.equal(before, after)
    assert model[1].running_mean.eq(0).all()
    after.sum().backward()
    assert model[1].weight.grad is not None


def test_a_bias_in_front_of_batch_norm_is_trained_only_where_it_matters():
    """Its gradient would be rounding, and AdamW would make full steps of it."""
    own, frozen = layers(), layers()
    configure_batch_norm(own, "local")
    configure_batch_norm(frozen, "frozen")
    assert [name for name, each in own.named_parameters() if not each.requires_grad] == ["0.bias"]
    assert all(each.requires_grad for each in frozen.parameters())
    images = torch.randn(2, 3, 8, 8)
    plain = layers()(images)
    with torch.no_grad():
        own[0].bias += 3
    assert torch.allclose(own(images), plain, atol=1e-5)


def test_alone_it_is_plain_batch_norm():
    model, plain = layers(), layers()
    configure_batch_norm(model, "sync")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images), plain(images))
    assert torch.equal(model[1].running_var, plain[1].running_var)
