"""One whole pre-training for all tests."""

from pathlib import Path

import pytest

from metaprompts.pretraining.pretrain import pretrain
from metaprompts.utils.callbacks import Callback
from pretraining.drawn import rectangle, small_settings


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished pre-training; not to be changed."""
    out = tmp_path_factory.mktemp("pretraining") / "run"
    pretrain(small_settings(out), Callback(), source=rectangle)
    return out
