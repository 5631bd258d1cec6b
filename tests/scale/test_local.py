"""Worker processes that die are replaced; stubs label, in forked processes, which start at once."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from metaprompts.errors import InputError
from metaprompts.scale import local
from metaprompts.scale.job import Done
from metaprompts.scale.source import Item, Slice

SLICES = [Slice(number=number, first=2 * number, items=(Item("a", "a"), Item("b", "b"))) for number in range(6)]


class Stub:
    """Labels slices; kills its process at slice 3 as often as a file says, and fails at slice 9."""

    def __init__(self, job, device=None):
        self.folder = Path(job.out)

    def __call__(self, part):
        kills = self.folder / "kills"
        if part.number == 3 and (left := int(kills.read_text())):
            kills.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        if part.number == 9:
            raise InputError("disk full")
        with (self.folder / "done").open("a") as file:
            file.write(f"{part.number}\n")
        return Done(len(part.items), 0)


@pytest.fixture
def made(job, tmp_path, monkeypatch):
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(local, "get_context", lambda kind: fork)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/kills").write_text("0")
    return job("depth", "photos")


@pytest.mark.parametrize("kills", [0, 2])
def test_a_killed_process_is_replaced_and_its_slice_labeled_again(made, kills):
    (Path(made.out) / "kills").write_text(str(kills))
    assert list(local.label_in_processes(made, iter(SLICES), 2, Stub)) == [Done(2, 0)] * 6
    done = (Path(made.out) / "done").read_text().split()
    assert sorted(done) == [str(number) for number in range(6)]


@pytest.mark.slow
def test_a_slice_that_ends_every_process_is_an_error(made):
    (Path(made.out) / "kills").write_text("9")
    with pytest.raises(
        InputError, match=r"^3 worker processes ended \(exit code -9\) while labeling 2 images, the first of them a"
    ):
        list(local.label_in_processes(made, iter(SLICES), 2, Stub))
    assert not multiprocessing.active_children()


def test_an_error_of_a_process_is_the_users_line(made):
    with pytest.raises(InputError, match=r"^disk full$"):
        list(local.label_in_processes(made, iter([Slice(number=9, first=0, items=SLICES[0].items)]), 2, Stub))
