"""The live training on machines of any speed."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from metaprompts.demo import live_training


@pytest.fixture
def rates(monkeypatch):
    """Learning rates of the steps of a training whose steps take ten seconds each."""
    clock, rates = iter(range(0, 10_000, 5)), []
    monkeypatch.setattr(live_training, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(live_training, "starting_model", lambda recipe: nn.Linear(1, 1))
    monkeypatch.setattr(live_training, "make_optimizer", lambda model, settings: None)
    monkeypatch.setattr(live_training, "training_split", lambda recipe: None)
    monkeypatch.setattr(live_training, "InfiniteDataLoader", lambda split, recipe: iter(lambda: {}, None))
    monkeypatch.setattr(live_training, "training_step", lambda *_: {"total": 1.0})
    monkeypatch.setattr(live_training, "apply_learning_rate", lambda optimizer, rate: rates.append(rate))
    return rates


RECIPE = SimpleNamespace(optimizer=SimpleNamespace(lr=1.0, max_grad_norm=1.0))


@pytest.mark.parametrize(("seconds", "steps"), [(1, 1), (10, 1), (60, 6)])
def test_there_is_always_a_step(rates, seconds, steps):
    """If loading the first batch took all the time, the report had no curve and did not say why."""
    torch.manual_seed(0)
    _, points = live_training.fine_tune(RECIPE, seconds)
    assert len(points) == len(rates) == steps
    assert all(rate >= 0 for rate in rates)
    assert points[-1].seconds >= seconds
