from pathlib import Path

import pytest

from metaprompts.utils.files import cache_folder


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("METAPROMPTS_CACHE", raising=False)
    assert cache_folder() == tmp_path / "metaprompts"

    monkeypatch.setenv("METAPROMPTS_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
