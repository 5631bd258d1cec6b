"""Killed at any moment and given again, a command ends with the bytes that it would have ended with undisturbed."""

import json
import os
import random
import shutil
import signal
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from killing import Commands, killed_and_finished
from slow import slow_except

MODEL = "micro-depth"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six images with depth, and a list of them."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        depth = generator.integers(500, 9000, (64, 64)).astype(np.uint16)
        Image.fromarray(depth).save(folder / f"depth{number}.png")
    for name in ("train.txt", "val.txt"):
        (folder / name).write_text("".join(f"{number}.png depth{number}.png\n" for number in range(6)))
    return folder


_MODULES = {
    "predict": [
        *(
            "metaprompts.models.loading",
            "metaprompts.cli.inference_options",
            "metaprompts.engines.factory",
            "rich.progress",
        ),
        *("metaprompts.inference.predict", "metaprompts.visualize.depth"),
    ],
    "label": ["metaprompts.scale.run", "metaprompts.scale.local"],
    "label with workers": ["metaprompts.scale.run", "metaprompts.scale.local"],
    "label with ray": ["metaprompts.scale.run", "metaprompts.scale.local"],
    "shard": ["metaprompts.data.shards.writer", "metaprompts.training.dataloaders"],
    "evaluate": ["metaprompts.models.loading", "metaprompts.evaluation.resumable", "metaprompts.training.dataloaders"],
    "export": ["metaprompts.models.loading", "metaprompts.engines.export", "torch.export"],
    "train": ["metaprompts.training.loop", "torch.utils.tensorboard"],
}


_LABEL = ["label", MODEL, "--format", "tar", "--shard-size", "2", "--batch-size", "2"]


def words_of(command: str, data: Path, out: Path) -> list[str]:
    reading = ["--data.root", str(data), "--data.image_size", "64,64"]
    sized = [*reading, "--augment.crop_size", "64,64", "--training.batch_size", "2", "--training.steps", "6"]
    often = ["--training.checkpoint_seconds", "0", "--training.validate_every", "3", "--training.output_dir", str(out)]
    return {
        "predict": ["predict", MODEL, *(str(data / f"{number}.png") for number in range(6)), "--engine", "plain"],
        "label": [*_LABEL, str(data / "?.png")],
        "label with workers": [*_LABEL, str(data / "?.png"), "--workers", "2"],
        "label with ray": [*_LABEL, str(data / "?.png"), "--workers", "2", "--engine", "ray"],
        "shard": ["data", "shard", "micro_depth", *reading, "--shard-bytes", "30KB"],
        "evaluate": ["evaluate", MODEL, *reading, "--data.val", "val.txt"],
        "export": ["export", MODEL, "--format", "torch", "--size", "64", "64"],
        "train": ["train", "micro_depth", *sized, *often, "--resume", "auto"],
    }[command] + ([] if command == "train" else ["--out", str(out)])


def contents(folder: Path) -> dict[str, object]:
    """The bytes of every file of a folder; of a log all but what the clock says, of a checkpoint its values."""
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        # What is compared is what is meant to stay; events of TensorBoard hold the time.
        if path.is_file() and "tensorboard" not in path.parts
    }


def _read(path: Path) -> object:
    if path.name == "log.jsonl":
        return _logged(path)
    if path.suffix == ".pt":
        # Pickle writes an object that is met again as a reference, and what was loaded is another object.
        return _plain(torch.load(path, weights_only=True))
    return path.read_bytes()


def _plain(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy(force=True).tobytes()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _logged(path: Path) -> list[dict[str, object]]:
    lines = map(json.loads, path.read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in ("seconds", "waited")} for line in lines]


def check(data: Path, tmp_path: Path, command: str, *, kills: int, rounds: int) -> None:
    commands = Commands(tmp_path / "log.txt", _MODULES[command])
    try:
        _check(commands, data, tmp_path, command, kills, rounds)
    finally:
        commands.close()


def _check(commands: Commands, data: Path, tmp_path: Path, command: str, kills: int, rounds: int) -> None:
    # The same folder for all, as its name is in some of the files.
    out = tmp_path / "out"
    words = words_of(command, data, out)
    # The first one also imports what is left.
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        code, took = commands.run(words)
    assert code == 0, commands.log.read_text()
    expected = contents(out)
    for number in range(rounds):
        shutil.rmtree(out)
        killed_and_finished(commands, words, out, kills, seed=number, took=took)
        found = contents(out)
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("command", slow_except(["predict", "label", "shard"], "shard"))
def test_a_few_kills(data, tmp_path, command):
    check(data, tmp_path, command, kills=2, rounds=1)


@pytest.mark.full
@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "shard", "export"])
def test_twenty_kills(data, tmp_path, command):
    """A hundred in all."""
    check(data, tmp_path, command, kills=5, rounds=4)


@pytest.mark.full
def test_thirty_kills_of_label(data, tmp_path):
    check(data, tmp_path, "label", kills=6, rounds=5)


@pytest.mark.full
@pytest.mark.parametrize(
    ("command", "victim"),
    [("label with workers", "worker"), ("label with ray", "driver"), ("label with ray", "worker")],
)
def test_fifteen_kills_of_label_with_workers(data, tmp_path, command, victim):
    """The command itself is killed, and given again; or one of its workers, which it replaces."""
    if "ray" in command:
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'metaprompts[ray]'")
    commands = Commands(tmp_path / "log.txt", _MODULES[command])
    try:
        _check_workers(commands, data, tmp_path, command, victim)
    finally:
        commands.close()


def _check_workers(commands: Commands, data: Path, tmp_path: Path, command: str, victim: str, kills: int = 15) -> None:
    out = tmp_path / "out"
    code, _ = commands.run(words_of("label", data, out))
    assert code == 0, commands.log.read_text()
    expected = contents(out)
    shutil.rmtree(out)
    words = words_of(command, data, out)
    code, took = commands.run(words)
    assert (code, contents(out) == expected) == (0, True), commands.log.read_text()
    shutil.rmtree(out)
    if victim == "driver":
        killed_and_finished(commands, words, out, kills, seed=0, took=took)
        assert contents(out) == expected
        return
    moments, done = random.Random(0), 0
    while done < kills:
        done += _run_and_kill_workers(commands, words, moments, took)
        assert contents(out) == expected
        shutil.rmtree(out)


def _run_and_kill_workers(commands: Commands, words: list[str], moments: random.Random, took: float) -> int:
    """Run a command to its end, and kill two of its workers meanwhile; returns how many were there to be killed."""
    killed, ended = list[int](), threading.Event()

    def kill() -> None:
        while len(killed) < 2 and not ended.wait(moments.uniform(0, took / 4)):
            if workers := _workers():
                victim = moments.choice(workers)
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    code, _ = commands.run(words)
    ended.set()
    killer.join()
    assert code == 0, commands.log.read_text()
    return len(killed)


def _workers() -> list[int]:
    """The actors of Ray and the worker processes below this process."""
    parents, names = dict[int, int](), dict[int, bytes]()
    for folder in Path("/proc").glob("[0-9]*"):
        # Processes end meanwhile.
        with suppress(OSError):
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])

    def is_ours(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    kinds = (b"ray::MapWorker", b"--multiprocessing-fork")
    return [process for process, name in names.items() if any(kind in name for kind in kinds) and is_ours(process)]
