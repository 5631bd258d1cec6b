"""Connecting to a Ray cluster, with a stand-in for Ray."""

from types import SimpleNamespace

import pytest

from metaprompts.errors import InputError
from metaprompts.scale import ray_engine


def _no_connection(**_: object) -> None:
    raise ConnectionError("Failed to connect to Ray cluster")


@pytest.mark.parametrize(("mode", "advised"), [(None, True), ("token", False)])
def test_a_token_that_is_missing_is_advised(mode: str | None, advised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray only said "Failed to connect" when a cluster asked for a token that this process had not enabled."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    ray = SimpleNamespace(is_initialized=lambda: False, init=_no_connection)

    with pytest.raises(InputError) as caught, ray_engine._connected(ray, "auto", 1, 1.0):
        pass

    assert str(caught.value).startswith("no Ray cluster at auto: Failed to connect to Ray cluster")
    assert ("set RAY_AUTH_MODE=token" in str(caught.value)) == advised
