"""Work in processes: all of it, errors included, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metaprompts.utils.multiprocessing import in_processes

WAITING = """
import os, sys, time
from metaprompts.utils.multiprocessing import in_processes

def note(folder, number):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(60)

if __name__ == "__main__":
    list(in_processes(note, [(sys.argv[1], n) for n in range(4)], 2))
"""


def square(number):
    if number == 13:
        raise ValueError("thirteen")
    return number * number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_once(workers):
    results = list(in_processes(square, [(n,) for n in range(8)], workers))
    assert sorted(value for value, _ in results) == [n * n for n in range(8)]
    assert (os.getpid() in {process for _, process in results}) == (workers == 1)


def test_an_error_comes_back():
    with pytest.raises(ValueError, match="thirteen"):
        list(in_processes(square, [(n,) for n in (1, 13, 2)], 2))


def test_no_jobs_start_no_process():
    assert list(in_processes(square, [], 2)) == []


def test_workers_end_with_a_killed_parent(tmp_path):
    """They would wait for its next job for ever."""
    (tmp_path / "program.py").write_text(WAITING)
    (tmp_path / "seen").mkdir()
    parent = subprocess.Popen([sys.executable, str(tmp_path / "program.py"), str(tmp_path / "seen")])
    workers = wait_for(lambda: [int(path.name) for path in (tmp_path / "seen").iterdir()], 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [worker for worker in workers if Path(f"/proc/{worker}/cmdline").exists()]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert left == []


def wait_for(ask, count):
    deadline = time.monotonic() + 60
    while len(found := ask()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
