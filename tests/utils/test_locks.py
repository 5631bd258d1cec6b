import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from metaprompts.errors import InputError
from metaprompts.utils import scratch
from metaprompts.utils.files import write_whole
from metaprompts.utils.locks import writing_into
from metaprompts.utils.scratch import LOCK_FILE, is_scratch, remove_scratch, scratch_next_to

_HOLDER = """
import sys
from pathlib import Path
from metaprompts.utils.files import write_whole
from metaprompts.utils.locks import writing_into
with writing_into(Path(sys.argv[1]), "train"), write_whole(Path(sys.argv[1]) / "x.txt") as path:
    print(path, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path):
    """Another process that holds the lock of a folder and is writing a file in it; with the file's name."""
    words = [sys.executable, "-c", _HOLDER, folder]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def written(folder: Path) -> str:
    """What a process says that this one starts to write into a folder; nothing if it may."""
    words = [sys.executable, "-c", _HOLDER, folder]
    return subprocess.run(words, input="", capture_output=True, text=True).stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestLock:
    def test_a_second_writer_is_refused_and_harms_nothing(self, tmp_path):
        """A second training removed the first one's unfinished files, which ended it, before it was itself refused."""
        with holder(tmp_path) as (process, unfinished):
            said = rf"metaprompts train \(process {process.pid} on .* since 2"
            with pytest.raises(InputError, match=said), writing_into(tmp_path, "evaluate"):
                pytest.fail("two writers")
            assert unfinished.is_file()
            process.communicate("")
        assert names(tmp_path) == ["x.txt"]

    def test_a_killed_writer_blocks_nobody_and_its_leftovers_go(self, tmp_path):
        with holder(tmp_path) as (process, unfinished):
            process.kill()
            process.wait()
            assert names(tmp_path) == sorted([LOCK_FILE, unfinished.name])
            with writing_into(tmp_path, "train"):
                assert names(tmp_path) == [LOCK_FILE]
        assert names(tmp_path) == []

    def test_once_more_in_the_same_process(self, tmp_path):
        """POSIX locks are of a process: it would get its own again."""
        with writing_into(tmp_path / "a", "train"):
            with (
                pytest.raises(InputError, match="this process is already writing"),
                writing_into(tmp_path / "a", "train"),
            ):
                pass
            with writing_into(tmp_path / "b", "train"):
                pass
        with writing_into(tmp_path / "a", "train"):
            pass

    @pytest.mark.parametrize("system", ["locks", "no locks"])
    def test_a_folder_in_one_that_another_process_writes(self, tmp_path, monkeypatch, system):
        """While `train --training.output_dir T` ran, `predict --out T/best` wrote next to the model being saved."""
        if system == "no locks":
            monkeypatch.setattr("metaprompts.utils.locks._fcntl", None)
        (tmp_path / "link").symlink_to(tmp_path / "T")
        with holder(tmp_path / "T") as (process, _):
            for folder in (tmp_path / "T/best", tmp_path / "T/a/b", tmp_path / "link/best"):
                said = rf"T, which contains {folder}, is being written by metaprompts train \(process {process.pid}"
                with pytest.raises(InputError, match=said), writing_into(folder, "predict"):
                    pytest.fail("two writers")
            assert [path.name for path in (tmp_path / "T").iterdir() if path.is_dir()] == []
            with writing_into(tmp_path / "Tbest", "predict"):
                pass
            process.kill()
            process.wait()
            with writing_into(tmp_path / "T/best", "predict"):
                pass

    def test_a_folder_in_one_that_this_process_writes(self, tmp_path):
        """The check of the outer lock must not free it, as closing any handle of a locked file does."""
        with writing_into(tmp_path, "ablate"), writing_into(tmp_path / "a" / "b", "train"):
            assert "is being written by metaprompts ablate" in written(tmp_path)

    def test_a_process_writes_below_the_folder_of_the_one_that_started_it(self, tmp_path):
        """`ablate` holds the lock of its folder, and its runs are processes that write below it."""
        with writing_into(tmp_path, "ablate"):
            assert written(tmp_path / "study" / "run") == ""

    def test_folders_that_stay_empty_go_again(self, tmp_path):
        with pytest.raises(KeyError), writing_into(tmp_path / "a" / "b", "train"):
            raise KeyError
        assert names(tmp_path) == []

    def test_no_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
            with pytest.raises(InputError, match=r"cannot write to .*not a folder"), writing_into(folder, "train"):
                pass

    def test_the_folder_may_be_deleted_meanwhile(self, tmp_path):
        with writing_into(tmp_path / "a", "train"):
            (tmp_path / "a" / LOCK_FILE).unlink()
            (tmp_path / "a").rmdir()

    def test_many_that_begin_at_once_take_turns(self, tmp_path):
        """The file is removed by who had it: somebody who opened it just before must not lock what is gone."""
        code = (
            "import os, sys\nfrom pathlib import Path\nfrom metaprompts.errors import InputError\n"
            "from metaprompts.utils.locks import writing_into\nfolder = Path(sys.argv[1])\nturns = 0\n"
            "while turns < 30:\n"
            "    try:\n"
            "        with writing_into(folder, 'train'):\n"
            "            os.close(os.open(folder / 'alone', os.O_CREAT | os.O_EXCL))\n"
            "            (folder / 'alone').unlink()\n"
            "            turns += 1\n"
            "    except InputError:\n"
            "        pass\n"
        )
        writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(3)]
        assert [writer.wait() for writer in writers] == [0, 0, 0]

    def test_where_there_are_no_locks_the_note_tells(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr("metaprompts.utils.locks._fcntl", None)
        with holder(tmp_path) as (process, _):
            with pytest.raises(InputError, match=f"process {process.pid}"), writing_into(tmp_path, "train"):
                pass
            process.kill()
            process.wait()
            with writing_into(tmp_path, "train"):
                pass
        assert "does not support locks" in caplog.text


class TestScratch:
    def test_only_what_the_dead_have_left_is_removed(self, tmp_path, monkeypatch):
        with write_whole(tmp_path / "mine.png") as mine, holder(tmp_path / "other") as (process, others):
            remove_scratch(tmp_path, deep=True)
            assert mine.is_file()
            assert others.is_file()
            process.kill()
            process.wait()
            remove_scratch(tmp_path)
            assert others.is_file()
            remove_scratch(tmp_path, deep=True)
            assert not others.is_file()
            assert mine.is_file()

    def test_the_number_of_a_process_comes_again(self, tmp_path, monkeypatch):
        earlier = scratch._birth(os.getpid()) - 1
        monkeypatch.setattr(scratch, "owner", lambda: f"{scratch._machine()}-{os.getpid():x}-{earlier:x}")
        scratch_next_to(tmp_path / "a.png").touch()
        remove_scratch(tmp_path)
        assert names(tmp_path) == []

    def test_another_machine_s_stay_while_they_may_be_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scratch, "owner", lambda: "0123abcd-1-1")
        new, old = scratch_next_to(tmp_path / "a.png"), scratch_next_to(tmp_path / "a.png")
        for path in (new, old):
            path.mkdir()
        os.utime(old, (time.time() - 7200,) * 2)
        remove_scratch(tmp_path)
        assert names(tmp_path) == [new.name]

    def test_what_others_name_so_stays(self, tmp_path):
        for name in (".x-0123456789abcdef", ".git", ".env-1-2-3.txt", "x-01234567-1-1-01234567"):
            (tmp_path / name).touch()
            assert not is_scratch(tmp_path / name)
        remove_scratch(tmp_path)
        assert len(names(tmp_path)) == 4

    def test_long_names_and_endings(self, tmp_path):
        for name in ("ä" * 120 + ".txt", "x." + "y" * 200):
            assert len(os.fsencode(scratch_next_to(tmp_path / name).name)) < 200
            assert is_scratch(scratch_next_to(tmp_path / name))

    def test_threads(self, tmp_path):
        found = []
        threads = [threading.Thread(target=lambda: found.append(scratch_next_to(tmp_path / "a.b"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 8
