import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from metaprompts.errors import InputError
from metaprompts.utils.files import (
    read_json,
    read_text,
    read_toml,
    write_failure,
    write_folder_whole,
    write_json,
    write_text,
    write_whole,
)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWriteWhole:
    def test_makes_folders_and_leaves_only_the_file(self, tmp_path):
        write_text(tmp_path / "a" / "b" / "c.txt", "Grüße")
        assert (tmp_path / "a" / "b" / "c.txt").read_text(encoding="utf-8") == "Grüße"
        assert names(tmp_path / "a" / "b") == ["c.txt"]

    def test_the_scratch_file_has_the_suffix(self, tmp_path):
        with write_whole(tmp_path / "image.png") as scratch:
            assert scratch.suffix == ".png"
            assert scratch.parent == tmp_path
            assert scratch.is_file()

    @pytest.mark.parametrize("failure", [RuntimeError("out of memory"), KeyboardInterrupt()])
    def test_a_failing_block_leaves_the_old_file_and_no_scratch(self, tmp_path, failure):
        path = tmp_path / "kept.txt"
        path.write_text("old")
        with pytest.raises(type(failure)), write_whole(path) as scratch:  # noqa: PT012
            scratch.write_text("half")
            raise failure
        assert path.read_text() == "old"
        assert names(tmp_path) == ["kept.txt"]

    def test_a_full_disk_is_one_clear_error(self, tmp_path):
        path = tmp_path / "kept.txt"
        path.write_text("old")
        with pytest.raises(InputError, match=r"cannot write .*kept\.txt: No space left on device; nothing"):  # noqa: SIM117
            with write_whole(path):
                raise OSError(28, os.strerror(28))
        assert path.read_text() == "old"
        assert names(tmp_path) == ["kept.txt"]

    def test_a_failing_rename_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "kept.txt"
        path.write_text("old")

        def reject(self, target):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "replace", reject)
        with pytest.raises(InputError, match="Permission denied"):
            write_text(path, "new")
        assert path.read_text() == "old"
        assert names(tmp_path) == ["kept.txt"]

    def test_the_old_file_is_there_until_the_new_one_is(self, tmp_path):
        path = tmp_path / "kept.txt"
        path.write_text("old")
        with write_whole(path) as scratch:
            scratch.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"

    def test_a_folder_that_is_a_file_is_refused(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file" / "x.txt", tmp_path / "file" / "deeper" / "x.txt"):
            with pytest.raises(InputError, match=r"cannot write .*x\.txt: .*file.* is not a folder; nothing"):
                write_text(path, "")

    def test_a_path_that_is_a_folder_is_refused(self, tmp_path):
        (tmp_path / "folder").mkdir()
        with pytest.raises(InputError, match="Is a directory"):
            write_text(tmp_path / "folder", "")
        assert names(tmp_path) == ["folder"]

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_the_umask_decides_who_may_read(self, tmp_path, umask, mask, mode):
        umask(mask)
        write_text(tmp_path / "x.txt", "")
        assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == mode

    def test_the_umask_is_never_changed(self, tmp_path, monkeypatch):
        """os.umask can only be read by changing it, for all threads at once."""
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("os.umask was called"))
        write_text(tmp_path / "x.txt", "")

    def test_file_and_folder_are_flushed(self, tmp_path, monkeypatch):
        flushed = []
        monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink()))
        if not Path("/proc/self/fd").is_dir():
            pytest.skip("needs /proc")
        write_text(tmp_path / "x.txt", "")
        assert flushed[0].name.startswith(".x-")
        assert flushed[1:] == [tmp_path]

    def test_a_folder_that_cannot_be_flushed_is_no_failure(self, tmp_path, monkeypatch):
        real = os.open

        def picky(path, flags, *mode):
            if Path(path).is_dir():
                raise PermissionError(13, "Permission denied")
            return real(path, flags, *mode)

        monkeypatch.setattr(os, "open", picky)
        write_text(tmp_path / "x.txt", "new")
        assert (tmp_path / "x.txt").read_text() == "new"

    def test_long_names(self, tmp_path):
        name = "ä" * 120 + ".txt"
        write_text(tmp_path / name, "")
        assert names(tmp_path) == [name]

    def test_writers_at_the_same_time_each_write_a_whole_file(self, tmp_path):
        code = (
            "import sys; from pathlib import Path; from metaprompts.utils.files import write_text\n"
            "for _ in range(100): write_text(Path(sys.argv[1]), sys.argv[2] * 10000)"
        )
        path = tmp_path / "x.txt"
        writers = [subprocess.Popen([sys.executable, "-c", code, path, letter]) for letter in "ab"]
        assert [writer.wait() for writer in writers] == [0, 0]
        assert path.read_text() in ("a" * 10000, "b" * 10000)
        assert names(tmp_path) == ["x.txt"]


class TestJson:
    def test_round_trip(self, tmp_path):
        value = {"b": [1, 2.5, None], "a": {"ö": True}}
        write_json(tmp_path / "x.json", value)
        assert read_json(tmp_path / "x.json") == value
        assert (tmp_path / "x.json").read_text().endswith("}\n")

    def test_a_value_that_is_no_json_writes_nothing(self, tmp_path):
        with pytest.raises(TypeError):
            write_json(tmp_path / "x.json", {"x": object()})
        assert names(tmp_path) == []

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"<html>"])
    def test_broken(self, tmp_path, content):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.json is not valid JSON") as caught:
            read_json(tmp_path / "x.json")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_byte_order_marks(self, tmp_path, encoding):
        """Annotations saved by Windows editors ended with "Unexpected UTF-8 BOM (decode using utf-8-sig)"."""
        (tmp_path / "x.json").write_text('{"a": "ö"}', encoding=encoding)
        assert read_json(tmp_path / "x.json") == {"a": "ö"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[" * 100_000, "nested more than 64"),
            ('{"a":' * 80 + "1" + "}" * 80, "nested more than 64"),
            ('{"a.jpg": 1, "a.jpg": 2}', "the key 'a.jpg' is duplicated"),
            (r'["\ud800"]', "an unpaired surrogate"),
            ("9" * 5000, "is not valid JSON"),
        ],
    )
    def test_what_python_alone_would_take_or_end_with_a_traceback(self, tmp_path, text, words):
        """Nested JSON was a RecursionError; of two captions of one name the first vanished."""
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(InputError, match=words) as caught:
            read_json(tmp_path / "x.json")
        assert "\n" not in str(caught.value)

    def test_names_of_files_that_are_not_utf_8_come_back(self, tmp_path):
        write_json(tmp_path / "x.json", {"path": "\udcff.jpg"})
        assert read_json(tmp_path / "x.json") == {"path": "\udcff.jpg"}

    def test_missing_or_a_folder(self, tmp_path):
        with pytest.raises(InputError, match=r"cannot read .*x\.json: No such file"):
            read_json(tmp_path / "x.json")
        with pytest.raises(InputError, match="Is a directory"):
            read_json(tmp_path)

    def test_human_readable(self, tmp_path):
        write_json(tmp_path / "x.json", {"a": [1]})
        assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1]}
        assert len((tmp_path / "x.json").read_text().splitlines()) > 3


class TestText:
    def test_lines_end_in_one_way(self, tmp_path):
        (tmp_path / "x.txt").write_bytes(b"a\r\nb\rc\n")
        assert read_text(tmp_path / "x.txt") == "a\nb\nc\n"

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"a\n\xe4\n", r"x\.txt is not UTF-8 text \(line 2: invalid"),
            (b"a\0b", "zero bytes"),
            (b"a" * 101, "larger than 100 bytes"),
        ],
    )
    def test_no_text(self, tmp_path, content, words):
        (tmp_path / "x.txt").write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_text(tmp_path / "x.txt", at_most=100)

    def test_a_device_is_not_read(self):
        """A list file /dev/zero took all memory."""
        with pytest.raises(InputError, match="it is a device"):
            read_text(Path("/dev/zero"))

    def test_toml(self, tmp_path):
        (tmp_path / "x.toml").write_text("a = 1\r\nb = 2\n", encoding="utf-8-sig")
        assert read_toml(tmp_path / "x.toml") == {"a": 1, "b": 2}
        (tmp_path / "x.toml").write_text("a = " + "[" * 20_000)
        with pytest.raises(InputError, match=r"x\.toml is not valid TOML: nested more than 64"):
            read_toml(tmp_path / "x.toml")


class TestWriteFailure:
    def test_what_the_system_said_is_found(self, tmp_path):
        """`export --format torch` on a full disk showed PyTorch's C++ frames."""

        def write():
            try:
                raise OSError(28, os.strerror(28))
            except OSError:
                raise RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0")  # noqa: B904

        with pytest.raises(RuntimeError) as caught:
            write()
        assert write_failure(caught.value, tmp_path).errno == 28
        assert write_failure(RuntimeError("a bug"), tmp_path) is None

    def test_a_writer_that_says_nothing_of_the_disk(self, tmp_path, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=4096))
        assert write_failure(RuntimeError("cannot serialize"), tmp_path).errno == 28


def test_a_folder_that_cannot_take_its_place_leaves_the_former_one(tmp_path, monkeypatch):
    """Ctrl-C, or an error, between the two renames lost both the former folder and the new one."""
    folder, rename = tmp_path / "made", Path.rename

    def interrupted(self, target):
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    folder.mkdir()
    (folder / "a").write_text("1")
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), write_folder_whole(folder) as scratch:
        (scratch / "a").write_text("2")
    assert (folder / "a").read_text() == "1"
    assert names(tmp_path) == ["made"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    """The error named the hidden scratch folder, which nobody made and which is not there."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught, write_folder_whole(tmp_path / "file/made"):
        pass
    assert f"{tmp_path / 'file'} is not a folder" in str(caught.value)
