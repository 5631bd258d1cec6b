"""Scripts and benchmarks are started rarely, so what they import may be gone."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "scripts").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_everything_that_is_imported_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/approximations.py imported a name that no longer existed."""
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setattr(sys, "argv", [str(path)])
    spec = importlib.util.spec_from_file_location(f"checked_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module.
    monkeypatch.setitem(sys.modules, spec.name, module)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if error.name.startswith("metaprompts"):
            raise
        pytest.skip(f"{error.name} is not installed")
