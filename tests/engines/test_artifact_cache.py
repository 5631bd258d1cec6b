"""Converted models are kept, and rebuilt when they do not fit or are damaged."""

import os
import threading
from pathlib import Path

import pytest
import torch

from metaprompts.engines.artifact_cache import artifact, has_any, is_kept
from metaprompts.errors import InputError
from metaprompts.utils.fingerprint import tensors_fingerprint

WHAT = {"weights": "abc", "size": (64, 64)}


class Builder:
    """Writes two files, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "network.xml").write_text(f"network {self.times}")
        (folder / "network.bin").write_bytes(b"weights")


def test_is_made_once_for_the_same_content(tmp_path: Path) -> None:
    build = Builder()
    assert not has_any(tmp_path / "none")
    (tmp_path / "captions").mkdir()
    assert not has_any(tmp_path)

    first, again = artifact(WHAT, build, tmp_path), artifact(WHAT, build, tmp_path)
    other = artifact({**WHAT, "weights": "abd"}, build, tmp_path)

    assert first == again != other
    assert build.times == 2
    assert has_any(tmp_path)
    assert is_kept(WHAT, tmp_path)
    assert not is_kept({"weights": "none"}, tmp_path)


def _truncate(place: Path) -> None:
    (place / "network.bin").write_bytes(b"weigh")


def _change(place: Path) -> None:
    (place / "network.bin").write_bytes(b"weightz")


def _remove(place: Path) -> None:
    (place / "network.xml").unlink()


def _garble(place: Path) -> None:
    (place / "artifact.json").write_text("{")


def _list_another(place: Path) -> None:
    (place / "artifact.json").write_text('["no", "artifact"]')


@pytest.mark.parametrize("damage", [_truncate, _change, _remove, _garble, _list_another])
def test_a_damaged_one_is_made_anew(tmp_path: Path, damage: object) -> None:
    build = Builder()
    place = artifact(WHAT, build, tmp_path)
    damage(place)

    assert not is_kept(WHAT, tmp_path)
    assert artifact(WHAT, build, tmp_path) == place
    assert build.times == 2
    assert (place / "network.xml").read_text() == "network 2"
    assert (place / "network.bin").read_bytes() == b"weights"
    assert is_kept(WHAT, tmp_path)


def test_nothing_stays_of_a_build_that_fails(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "network.bin").write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        artifact(WHAT, build, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_several_may_ask_at_once(tmp_path: Path) -> None:
    everybody = threading.Barrier(4)
    places = []

    def build(folder: Path) -> None:
        everybody.wait()
        Builder()(folder)

    threads = [threading.Thread(target=lambda: places.append(artifact(WHAT, build, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(places)) == 1
    assert len(places) == 4
    assert list(tmp_path.iterdir()) == places[:1]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(
        InputError, match=r"cannot write to the cache .*file: .*; choose another folder with METAPROMPTS_CACHE"
    ):
        artifact(WHAT, Builder(), tmp_path / "file")


def test_every_number_counts() -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1])}
    digest = tensors_fingerprint(weights.items())

    changed = {**weights, "a": weights["a"].clone()}
    changed["a"][1, 1] += 1e-6

    assert tensors_fingerprint(weights.items()) == digest
    assert tensors_fingerprint({**weights, "a": weights["a"].half()}.items()) == digest
    assert tensors_fingerprint(changed.items()) != digest
    assert tensors_fingerprint({**weights, "a": weights["a"].reshape(3, 2)}.items()) != digest


def test_another_user_s_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted networks were run whoever had put them there, such as in a METAPROMPTS_CACHE below /tmp."""
    build = Builder()
    artifact(WHAT, build, tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_kept(WHAT, tmp_path)
    with pytest.raises(InputError, match=r"belongs to another user, .*set METAPROMPTS_CACHE to another folder"):
        artifact(WHAT, build, tmp_path)


def test_a_cache_that_anybody_can_write_is_refused(tmp_path: Path) -> None:
    build = Builder()
    artifact(WHAT, build, tmp_path)
    tmp_path.chmod(0o777)
    assert not is_kept(WHAT, tmp_path)
    with pytest.raises(InputError, match="is world-writable"):
        artifact(WHAT, build, tmp_path)


def test_a_network_that_anybody_can_write_is_made_anew(tmp_path: Path) -> None:
    build = Builder()
    (artifact(WHAT, build, tmp_path) / "network.xml").chmod(0o666)
    assert not is_kept(WHAT, tmp_path)
    assert is_kept(WHAT, artifact(WHAT, build, tmp_path).parent)
    assert build.times == 2
