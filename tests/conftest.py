import importlib
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data set samples (../shared/data) are not here")
    return SHARED_DATA


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings write curves.png without matplotlib, which takes longer than a step of a tiny model."""
    # By name: most tests import nothing of the trainings.
    loop = importlib.import_module("metaprompts.training.loop")
    monkeypatch.setattr(loop, "training_curves", lambda lines, metric: np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works as in a terminal, wherever the tests run: in a shell's background SIGINT is ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)
