"""metaprompts data shard, and what the other commands do with shards."""

import json
import shutil
import signal

import pytest

from cli.test_train import LISTS
from metaprompts.cli import main
from metaprompts.data.shards import writer
from metaprompts.recipes.loader import read_recipe
from slow import slow_except
from small import SMALL


@pytest.fixture(autouse=True)
def former_signals():
    former = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def root(data, tmp_path):
    """A copy of the data that may be spoiled."""
    return shutil.copytree(data, tmp_path / "data")


def recipe(task, folder):
    sized = [] if task == "pose" else ["--data.image_size", "64,64", "--augment.crop_size", "64,64"]
    words = [*SMALL[task], *sized, *LISTS[task], "--training.device", "cpu", "--data.num_workers", "0"]
    path = folder / f"{task}.json"
    path.write_text(json.dumps(read_recipe(f"micro_{task}", words).to_dict()))
    return str(path)


@pytest.fixture
def shard(root, tmp_path, capsys):
    """Shard the copy; returns exit code, output and errors."""

    def run(task, *words):
        code = main(
            ["data", "shard", recipe(task, tmp_path), "--data.root", str(root), "--out", str(tmp_path / "out"), *words]
        )
        return code, *capsys.readouterr()

    return run


def test_it_says_what_it_wrote_and_goes_on(shard, tmp_path):
    code, out, _ = shard("depth", "--shard-bytes", "20kB")
    assert code == 0
    assert "train: 4 samples; 2 tar files, 0.1 MB" in out
    assert f"shards in {tmp_path / 'out'}" in out
    assert len(list((tmp_path / "out").glob("train-*.tar"))) == 2
    (tmp_path / "out/train-000001.tar").unlink()
    code, again, err = shard("depth", "--shard-bytes=20kB")
    assert (code, again) == (0, out)
    assert "writing train: 2 of 4 already done; pass --resume never to discard them" in err.replace("\n", " ")
    code, _, err = shard("depth", "--shard-bytes", "1MB")
    assert (code, err.count("\n")) == (2, 1)
    assert "shards that differ in --shard-bytes" in err
    assert shard("depth", "--shard-bytes", "1MB", "--resume", "never")[0] == 0


def test_one_split(shard, tmp_path, capsys):
    assert shard("segmentation", "--split", "val")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shards.json", "val-000000.tar"]
    assert main(["train", recipe("segmentation", tmp_path), "--data.shards", str(tmp_path / "out")]) == 2
    assert "out does not hold this split: pass --data.root DIR" in capsys.readouterr().err


def test_interrupted_it_is_130_and_leaves_whole_files(shard, tmp_path, monkeypatch):
    def stop(*_):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(writer, "write_part", stop)
    code, _, err = shard("depth", "--shard-bytes", "20kB")
    assert (code, err) == (130, "interrupted\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shards.json", "train-000000.tar"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_bad_sample_stops_it_or_is_left_out(shard, root, workers):
    (root / "images/002.png").write_bytes(b"")
    code, _, err = shard("depth", "--data.num_workers", workers)
    assert (code, err.count("\n")) == (2, 1)
    assert "images/002.png is empty" in err
    code, _, err = shard("depth", "--data.on_error", "skip", "--data.num_workers", workers)
    # The validation split has the same image, and never passes over one.
    assert code == 2
    code, out, err = shard("depth", "--data.on_error", "skip", "--split", "train")
    assert code == 0
    assert "train: 4 samples, 1 of them skipped" in out


def test_check_reads_shards(shard, tmp_path, capsys, monkeypatch):
    shard("pose")
    monkeypatch.chdir(tmp_path)
    words = ["data", "check", recipe("pose", tmp_path), "--data.shards", str(tmp_path / "out"), "--full"]
    sheet = tmp_path / "sheet.png"
    assert main([*words, "--out", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / 'out'}:\n")
    assert "train 4 people; in 1 shard; 4 read, none bad" in " ".join(out.split())
    assert sheet.is_file()
    path = tmp_path / "out/train-000000.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    assert main(words) == 1
    assert f"bad: 00000000.png of shard {path} is damaged: copy it again, or delete it" in capsys.readouterr().out


@pytest.mark.parametrize("task", slow_except(SMALL, "segmentation"))
@pytest.mark.slow
def test_evaluation_finds_the_same_with_the_same_names(task, models, data, shard, root, tmp_path):
    shard(task)
    for place in (("--data.root", str(root)), ("--data.shards", str(tmp_path / "out"))):
        out = tmp_path / place[0].strip("-")
        words = ["evaluate", str(models / task), "--recipe", recipe(task, tmp_path), "--out", str(out)]
        assert main([*words, *place]) == 0
        if place[0] == "--data.root":
            shutil.rmtree(root)
    sharded, stored = tmp_path / "data.shards", tmp_path / "data.root"
    assert (sharded / "metrics.json").read_bytes() == (stored / "metrics.json").read_bytes()
    assert records(sharded) == records(stored)


def records(folder):
    """What was found, without what tells the files that it was found in."""
    lines = [json.loads(line) for line in (folder / "per_image.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("files", "sum")} for line in lines]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "Missing argument 'RECIPE'"),
        (["micro_depth", "--data.root", "."], "Missing option '--out'"),
        (["--out", "out"], "Missing argument 'RECIPE'"),
        (["micro_depth", "--out"], "Option '--out' requires an argument"),
        (["micro_depth", "--out", "out"], "pass --data.root DIR"),
        (["micro_depth", "--out", "out", "--data.root", "/nowhere"], "/nowhere is not a folder"),
        (["micro_depth", "--out", "out", "--data.shards", "a"], "shards are made from folders: omit data.shards"),
        (["micro_depth", "--out", "out", "--split", "test"], "'test' is not one of 'train', 'val'"),
        (["micro_depth", "--out", "out", "--shard-bytes", "much"], "--shard-bytes is"),
        (["micro_depth", "--out", "out", "--shard-bytes", "0"], "--shard-bytes is"),
    ],
)
def test_words(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "shard", *words]) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_shows_both(capsys):
    assert main(["data", "--help"]) == 0
    out = capsys.readouterr().out
    assert "check  Check that a recipe's data exists" in out
    assert "shard  Pack a data set into shards" in out
    assert main(["data", "shard", "--help"]) == 0
    assert "--shard-bytes SIZE" in capsys.readouterr().out
