"""Commands in processes of their own, which may be killed at any moment."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Imports what takes long once, and computes nothing itself: threads would not survive the fork.
_SERVER = """
import importlib, json, os, signal, sys, time
import click, torch
from metaprompts.cli import main
from metaprompts.cli.commands import command_line

command_line().get_help(click.Context(command_line()))
torch.set_num_threads(1)
for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    words, log, kill_after, environments = json.loads(line)
    started, children = time.monotonic(), []
    for environment in environments:
        children.append(os.fork())
        if children[-1] == 0:
            os.environ.update(environment)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(out, 1), os.dup2(out, 2)
            os._exit(main(words))
    if kill_after is not None:
        time.sleep(kill_after)
        # Until it is waited for, its number is nobody else's.
        os.kill(children[0], signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps([next(filter(None, codes), 0), time.monotonic() - started]), flush=True)
"""


class Commands:
    """Runs commands of metaprompts one after the other.

    Args:
        log: file that gets what they say
        modules: to import before
    """

    def __init__(self, log: Path, modules: Sequence[str]) -> None:
        self.log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, words: list[str], kill_after: float | None = None, processes: int = 1) -> tuple[int, float]:
        """Run a command, and kill it after so many seconds.

        Args:
            words: the command
            kill_after: seconds; None lets it come to its end
            processes: processes of one training, which find each other as those of torchrun do

        Returns:
            its exit code, minus the signal's number if it was killed, and how long it took
        """
        environments = [{}] if processes == 1 else _environments(processes)
        self._server.stdin.write(json.dumps([words, str(self.log), kill_after, environments]) + "\n")
        self._server.stdin.flush()
        code, seconds = json.loads(self._server.stdout.readline())
        return code, seconds

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


def _environments(processes: int) -> list[dict[str, str]]:
    """What torchrun sets for each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def killed_and_finished(commands: Commands, words: list[str], out: Path, kills: int, seed: int, took: float) -> None:
    """Begin a command again and again, kill it at random moments, and let it come to its end at last.

    Args:
        commands: runs it
        words: the command
        out: its folder of results
        kills: how many of them do kill it, as some come too late
        seed: seed of the moments
        took: seconds that it takes undisturbed
    """
    moments, done = random.Random(seed), 0
    while done < kills:
        code, _ = commands.run(words, kill_after=moments.uniform(0, took))
        if code == -signal.SIGKILL:
            done += 1
        else:
            assert code == 0, commands.log.read_text()
            shutil.rmtree(out)
    code, _ = commands.run(words)
    assert code == 0, commands.log.read_text()
