"""The log of a run, read back after whatever happened to it."""

import json
import logging

import pytest

from metaprompts.errors import InputError
from metaprompts.training.logger import JsonlFile, naming_tracker, read_lines

LINES = [{"step": step, "total": 0.5, "lr": 0.1} for step in (1, 2, 3)]


def written(path, *, before=b"", after=b""):
    path.write_bytes(before + b"".join(json.dumps(line).encode() + b"\n" for line in LINES) + after)
    return path


@pytest.mark.parametrize(
    "bad", [b"\xff\n", b"{\n", b"5\n", b'{"step": "1"}\n', b'{"step": 1, "total": "x"}\n', b"[" * 9999 + b"\n"]
)
def test_a_damaged_line_is_left_out_and_the_others_stay(tmp_path, caplog, bad):
    """One bad byte in log.jsonl kept --resume auto from going on."""
    path = written(tmp_path / "log.jsonl", before=bad)
    assert read_lines(path) == LINES
    assert caplog.messages == [f"{path} has 1 damaged line: skipped"]
    caplog.clear()
    JsonlFile(path, 2).close()
    assert len(caplog.messages) == 1
    assert read_lines(path) == LINES[:2]
    assert len(caplog.messages) == 1


def test_a_line_that_was_being_written_is_no_damage(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    assert read_lines(written(tmp_path / "log.jsonl", after=b'{"step": 4, "tot')) == LINES
    assert read_lines(tmp_path / "none.jsonl") == []
    assert caplog.messages == []


@pytest.mark.parametrize("error", [AttributeError("'NoneType' has no attribute 'write'"), OSError(28, "No space")])
def test_a_tracker_that_cannot_write_is_named(error):
    """Where the disk was full, TensorBoard ended a run with an AttributeError."""
    said = r"^tensorboard cannot write .*pass --training.report_to none"
    with pytest.raises(InputError, match=said), naming_tracker("tensorboard"):
        raise error
