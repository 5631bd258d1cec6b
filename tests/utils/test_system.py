"""What is read of big files does not stay in memory; what was changed stays changed."""

import mmap
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from metaprompts.utils.system import held_bytes, releasing_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the mappings of a process")

_BYTES = 2**27


def test_what_was_read_of_a_big_file_is_given_back(tmp_path: Path) -> None:
    """Its pages count as memory until then, and are read again afterwards."""
    save_file({"ones": torch.ones(_BYTES // 4)}, tmp_path / "big.safetensors")
    ones = load_file(tmp_path / "big.safetensors")["ones"]
    ones.sum()
    before = held_bytes()

    with releasing_files():
        pass

    assert before - held_bytes() > 0.9 * _BYTES
    assert ones.sum() == _BYTES // 4


def test_a_tensor_that_was_changed_stays_changed(tmp_path: Path) -> None:
    """The file does not know of the change."""
    save_file({"ones": torch.ones(_BYTES // 4)}, tmp_path / "big.safetensors")
    ones = load_file(tmp_path / "big.safetensors")["ones"]
    ones[7] = 70

    with releasing_files():
        pass

    assert ones[7] == 70


def test_a_shared_mapping_loses_nothing(tmp_path: Path) -> None:
    """What was written reaches the file."""
    path = tmp_path / "shared"
    path.write_bytes(bytes(_BYTES))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _BYTES) as shared:
        shared[7] = 70

        with releasing_files():
            pass

        assert shared[7] == 70
    assert path.read_bytes()[7] == 70


def test_an_error_is_not_held_back() -> None:
    with pytest.raises(KeyError), releasing_files():
        raise KeyError


def test_files_do_not_pile_up_while_they_are_read(tmp_path: Path) -> None:
    """Far more is read than is ever held.

    On a machine busy with other work this test failed: it read on without waiting for the thread that gives back.
    """
    piece, pieces = 2**25, 16
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(pieces * piece)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        before = held_bytes()
        with releasing_files():
            for number in range(pieces):
                mapped[number * piece : (number + 1) * piece].count(b"\1")
                deadline = time.monotonic() + 60
                while held_bytes() - before >= 0.75 * pieces * piece:
                    assert time.monotonic() < deadline, "nothing was given back for a minute"
                    time.sleep(0.02)
