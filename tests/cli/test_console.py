"""What commands print, and how they end, on odd terminals, with odd names, and when the machine fails them."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from metaprompts.cli import main
from metaprompts.cli.console import printable
from metaprompts.cli.failures import error_line
from metaprompts.cli.signals import ending_as_by_ctrl_c
from metaprompts.errors import InputError


def ended(line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which M is the program."""
    words = ["bash", "-c", f'set -o pipefail; M() {{ "{sys.executable}" -m metaprompts "$@"; }}; {line}']
    return subprocess.run(words, capture_output=True, check=False)


@pytest.mark.parametrize("line", ["M --version | true", "M train --help | head -1"])
def test_a_reader_that_goes_away_is_no_error(line):
    """`metaprompts --version | true` ended with "Exception ignored ... BrokenPipeError" and code 120."""
    done = ended(line)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_output_that_cannot_be_written_is_an_error():
    done = ended("M --version > /dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: No space left on device; make room")


def test_a_signal_that_meets_a_destructor_ends_the_command():
    """A SIGTERM in a `__del__` was printed, "Exception ignored in ...", and forgotten: evaluate went on to its end."""

    class Signalled:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0)

    def command():
        Signalled()
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt), ending_as_by_ctrl_c():
        command()


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("utf-8", marks=pytest.mark.full)])
def test_any_name_on_any_terminal(tmp_path, encoding):
    """Names that the terminal's encoding lacks, and names that are not UTF-8, ended in a UnicodeEncodeError."""
    done = ended(f"cd {tmp_path}; PYTHONIOENCODING={encoding} M train $'gr\\xfc\\xc3\\xbc\\xe4\\xb8\\x96\\e[31m.toml'")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: no recipe 'gr")
    assert done.stderr.count(b"\n") == 1
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text\n", "plain text\n"),
        ("grün 世界 क्‍ष", "grün 世界 क्‍ष"),
        ("a\x1b[31mred\x07\r", r"a\x1b[31mred\x07\r"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\udcff.jpg", "\udcff.jpg"),
    ],
)
def test_names_do_not_steer_the_terminal(text, shown):
    """A file called ESC]0;... renamed the window, one with ESC[2J wiped it."""
    assert printable(text) == shown


class TestTold:
    def test_bad_input(self):
        assert error_line(InputError("no\n image"), "predict") == ("no image", 2)

    def test_a_bug_names_its_place(self):
        with pytest.raises(AttributeError) as caught:
            printable(7)
        line, code = error_line(caught.value, "predict")
        assert code == 3
        assert "at metaprompts/cli/console.py:" in line
        assert "this is a bug, please report it" in line

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 4 bytes"),
            OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        ],
    )
    def test_memory_says_what_to_lower(self, error):
        """The allocator's own words, with C++ frames, were all that a user saw."""
        line, code = error_line(error, "train")
        assert (line.startswith("out of memory ("), code) == (True, 2)
        assert "lower training.micro_batch_size" in line
        assert "--batch-size" in error_line(error, "predict")[0]

    def test_memory_for_real(self):
        with pytest.raises(RuntimeError) as caught:
            torch.empty(2**60)
        assert error_line(caught.value, "train")[0].startswith("out of memory (")
        with pytest.raises(MemoryError) as numpy_s:
            np.empty(2**58)
        assert error_line(numpy_s.value, "train")[0].startswith("out of memory (")

    def test_a_bug_in_a_process_that_reads(self):
        """The whole traceback of the worker was in the line."""
        trace = (
            "Caught KeyError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "/x/torch/utils/data/fetch.py", line 52, in fetch\n    data = 1\n'
            "  File \"/y/metaprompts/data/reading.py\", line 80, in __getitem__\n    return 2\nKeyError: 'a'\n"
        )
        line, code = error_line(ValueError(trace), "train")
        assert code == 3
        assert line.startswith("KeyError: 'a', at metaprompts/data/reading.py:80; this is a bug")

    def test_what_the_system_lacks(self):
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y")
        assert error_line(full, "train") == ("/x/y: No space left on device; make room (--debug shows where)", 2)


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_sigterm_ends_as_ctrl_c(self, monkeypatch, capsys, number):
        """SIGTERM left scratch files in predict, evaluate, heatmaps, submit, import-released, data check, export."""
        former = signal.signal(number, signal.SIG_DFL)
        try:
            monkeypatch.setattr("metaprompts.cli._run", lambda words: signal.raise_signal(number))
            assert main(["predict"]) == 130
            assert signal.getsignal(number) is signal.SIG_DFL
        finally:
            signal.signal(number, former)
        assert capsys.readouterr().err == "interrupted\n"

    def test_what_imports_make_of_it_is_no_bug(self, monkeypatch, capsys):
        """A signal during an import ended in "RuntimeError: Failed to import diffusers...: this is a bug"."""

        def importing(words):
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt as error:
                raise RuntimeError("Failed to import diffusers") from error

        monkeypatch.setattr("metaprompts.cli._run", importing)
        assert main(["predict"]) == 130
        assert capsys.readouterr().err == "interrupted\n"

    def test_a_second_signal_does_not_disturb_the_end(self):
        """A cluster tells a job's processes, and they tell each other."""
        cleaned = []

        def work():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                cleaned.append(True)

        with ending_as_by_ctrl_c(), pytest.raises(KeyboardInterrupt):
            work()
        assert cleaned == [True]


class Signals:
    """Sends SIGTERM where Python swallows what a signal handler raises."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_does_not_come_again_after_the_command():
    """One that met a destructor in the last moment ended the process that had called the command."""
    came = []
    former = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        with ending_as_by_ctrl_c():
            Signals()
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert not came
