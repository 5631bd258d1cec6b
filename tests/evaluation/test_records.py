import json
import math
import sys

import pytest

from metaprompts.errors import InputError
from metaprompts.evaluation.records import (
    RecordWriter,
    begin,
    belongs_to,
    drop_damaged,
    read_records,
    write_records,
)

WHAT = {"weights": "abc", "test": {"windows": (16, 8)}}


def records(*indices):
    return [{"index": index, "name": f"{index}.png", "state": [index, 0.1]} for index in indices]


def test_records_of_all_processes_become_one_file_in_order(tmp_path):
    for rank, found in enumerate([records(0, 4), records(3), records(1, 2)]):
        with RecordWriter(tmp_path, rank) as writer:
            for record in found:
                writer.write(record)
    assert sorted(read_records(tmp_path)) == [0, 1, 2, 3, 4]
    write_records(tmp_path, read_records(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "per_image.jsonl").read_text().splitlines()]
    assert [{**line, "sum": None} for line in lines] == [{**one, "sum": None} for one in records(0, 1, 2, 3, 4)]
    assert len({line["sum"] for line in lines}) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["per_image.jsonl"]


@pytest.mark.parametrize("torn", ['{"index": 9', '{"index": 9, "name": "9.png", "state": [9, 0.1]}'])
def test_a_line_that_was_being_written_is_forgotten_and_cut_off(tmp_path, torn):
    """Without its line end even a line that seems whole may lack its last digits."""
    with RecordWriter(tmp_path, 0) as writer:
        writer.write(records(0)[0])
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text() + torn)
    assert list(read_records(tmp_path)) == [0]
    with RecordWriter(tmp_path, 0) as writer:
        writer.write(records(1)[0])
    assert list(read_records(tmp_path).values()) == records(0, 1)


def test_a_record_is_there_as_soon_as_it_is_written(tmp_path):
    with RecordWriter(tmp_path, 0) as writer:
        writer.write({"index": 0, "rmse": math.nan, "state": []})
        assert read_records(tmp_path) == {0: {"index": 0, "rmse": None, "state": []}}


def change(path, old, new):
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


@pytest.mark.parametrize(
    "damage",
    [
        ('"state":[1,0.1]', '"state":[1,0.9]'),
        ('"index":1,', '"index":5,'),
        ('{"index":1', '{"broken'),
        ('{"index":1', "[[[[" * 9999),
        ('"name":"1.png"', '"name": "1.png"'),
    ],
)
def test_a_changed_record_is_dropped_and_counted(tmp_path, caplog, damage):
    """A record changed by hand, finite but impossible, changed the metric without a word."""
    with RecordWriter(tmp_path, 0) as writer:
        for record in records(0, 1, 2):
            writer.write(record)
    change(tmp_path / "per_image-part0.jsonl", *damage)
    assert sorted(read_records(tmp_path)) == [0, 2]
    drop_damaged(tmp_path)
    assert caplog.messages == [f"1 record in {tmp_path} damaged or changed (checksum mismatch): evaluated again"]
    drop_damaged(tmp_path)
    assert len(caplog.messages) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["per_image.jsonl"]


def test_records_of_another_evaluation_do_not_count(tmp_path):
    """Records copied from the evaluation of other weights were counted as this one's."""
    for name, what in (("a", WHAT), ("b", WHAT | {"weights": "xyz"})):
        begin(tmp_path / name, what)
        with RecordWriter(tmp_path / name, 0) as writer:
            writer.write(records(0)[0])
    (tmp_path / "a/per_image-part0.jsonl").replace(tmp_path / "b/per_image-part0.jsonl")
    assert read_records(tmp_path / "b") == {}


def test_an_evaluation_goes_on_only_where_it_is_the_same(tmp_path):
    assert not belongs_to(tmp_path, WHAT, restart=False)
    begin(tmp_path, WHAT)
    assert belongs_to(tmp_path, WHAT, restart=False)
    assert not belongs_to(tmp_path, WHAT, restart=True)
    # Nothing is lost where the other evaluation has found nothing, or is finished.
    assert not belongs_to(tmp_path, WHAT | {"weights": "xyz"}, restart=False)
    with RecordWriter(tmp_path, 0) as writer:
        writer.write(records(0)[0])
    with pytest.raises(InputError, match="unfinished evaluation that differs in weights: choose another --out"):
        belongs_to(tmp_path, WHAT | {"weights": "xyz"}, restart=False)
    write_records(tmp_path, read_records(tmp_path))
    assert not belongs_to(tmp_path, WHAT | {"weights": "xyz"}, restart=False)


def test_beginning_discards_what_was_there(tmp_path):
    begin(tmp_path, WHAT)
    with RecordWriter(tmp_path, 3) as writer:
        writer.write(records(0)[0])
    (tmp_path / "metrics.json").write_text("{}")
    begin(tmp_path, WHAT)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        RecordWriter(tmp_path / "file/in", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limits on files")
def test_a_full_disk_is_one_line_and_loses_nothing_that_was_finished(tmp_path):
    """A line that was written in part spoiled the next one."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordWriter(tmp_path, 0) as writer:
        writer.write(records(0)[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (90, before[1]))
        try:
            with pytest.raises(InputError, match="run the same command again to continue"):
                writer.write(records(1)[0])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with RecordWriter(tmp_path, 0) as writer:
        writer.write(records(2)[0])
    assert list(read_records(tmp_path)) == [0, 2]


def test_an_unfinished_evaluation_that_found_nothing_gives_way(tmp_path):
    begin(tmp_path, WHAT)
    with RecordWriter(tmp_path, 0):
        pass
    assert not belongs_to(tmp_path, WHAT | {"weights": "xyz"}, restart=False)
