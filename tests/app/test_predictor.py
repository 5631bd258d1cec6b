"""How the app opens its models."""

from pathlib import Path

import pytest

from metaprompts.app.predictor import load_predictors
from metaprompts.app.settings import Limits, ModelSettings
from metaprompts.errors import InputError

LIMITS = Limits(upload_bytes=10**6, side_px=1000, queue=1, timeout_s=60)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"engine": "plain", "precision": "bf16"}, "engine plain computes everything in fp32"),
        ({"engine": "eager", "precision": "w8a8"}, "engine eager supports fp32, bf16 and fp16, not w8a8"),
        ({"engine": "auto", "calibration": Path("photos")}, "--calibration requires --precision w8a8"),
    ],
)
def test_an_impossible_precision_is_reported(given: dict, line: str) -> None:
    """The options reach the engine."""
    settings = ModelSettings(sources=("micro-depth",), detector="micro-segmentation", device="cpu", **given)

    with pytest.raises(InputError, match=line):
        load_predictors(settings, LIMITS)


def test_the_precision_is_that_of_the_engine() -> None:
    settings = ModelSettings(
        sources=("micro-depth",), detector="micro-segmentation", device="cpu", engine="eager", precision="bf16"
    )

    (predictor,) = load_predictors(settings, LIMITS)

    assert (predictor.executed.engine, predictor.executed.precision) == ("eager", "bf16")
    assert predictor.facts.engine.startswith("engine: eager, bf16")


def test_all_tasks_warm_up() -> None:
    """Pose warms up its detector too, and needs a box, although a blank image shows nobody."""
    names = ("micro-depth", "micro-pose", "micro-segmentation")
    settings = ModelSettings(sources=names, detector="micro-segmentation", device="cpu", engine="plain")

    for predictor in load_predictors(settings, LIMITS):
        calls = []
        predictor.model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        predictor.warm_up(portrait=False)
        assert calls, predictor.name
