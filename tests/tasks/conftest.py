import sys
from pathlib import Path

import pytest

from metaprompts import tasks


@pytest.fixture
def outside(monkeypatch):
    """The task gray, as another package brings it: a module, and a distribution with its entry point."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "outside")
    tasks._found.cache_clear()
    yield
    tasks._found.cache_clear()
    sys.modules.pop("gray_task", None)
