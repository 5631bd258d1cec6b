"""The process that runs the app's models: one call at a time, with a time limit."""

import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from threading import Thread

import pytest

import app_stubs
from metaprompts.app.model_process import ModelProcess
from metaprompts.app.settings import Limits, ModelSettings
from metaprompts.app.worker import Reply, answer_calls
from metaprompts.errors import InputError

SETTINGS = ModelSettings(sources=("stub",), detector="stub", engine="plain", device=None)


def limits(timeout_s=60.0):
    return Limits(upload_bytes=10**6, side_px=512, queue=4, timeout_s=timeout_s)


@pytest.fixture
def start():
    started = []

    def start(target, **settings):
        started.append(ModelProcess(SETTINGS, limits(**settings), target=target))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def test_calls_errors_and_a_process_that_dies(start):
    """A prediction that ended the process, for example by taking all memory, must not end the app."""
    models = start(app_stubs.run_stub)
    assert models.wait_until_ready() == [app_stubs.FACTS]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: models.call(0, "echo", number), range(8)))
    assert answers == [("echo", number) for number in range(8)]
    with pytest.raises(InputError, match="the image is bad"):
        models.call(0, "bad")
    with pytest.raises(RuntimeError, match="a bug"):
        models.call(0, "bug")
    with pytest.raises(InputError, match="ended unexpectedly, probably because memory ran out: try a smaller image"):
        models.call(0, "die")
    assert models.call(0, "echo", 1) == ("echo", 1)


def test_a_call_that_takes_too_long_is_stopped(start):
    models = start(app_stubs.run_stub, timeout_s=0.2)
    with pytest.raises(InputError, match=r"took longer than 0\.2 seconds and was stopped"):
        models.call(0, "sleep")
    # Loading the models again does not count.
    assert models.call(0, "echo") == ("echo",)


@pytest.mark.parametrize(
    ("target", "line"),
    [(app_stubs.fail_to_load, "no model at nowhere"), (app_stubs.end_while_loading, "probably out of memory")],
)
def test_models_that_do_not_load(start, target, line):
    with pytest.raises(InputError, match=line):
        start(target).wait_until_ready()


class StubPredictor:
    """Notes its runs; "broken" fails on a blank image."""

    def __init__(self, name, runs):
        self.name, self._runs = name, runs

    def warm_up(self, *, portrait):
        self._runs.append(f"{'portrait' if portrait else 'landscape'} {self.name}")
        if self.name == "broken":
            raise ValueError("blank images are too dark")

    def predict(self, number):
        self._runs.append(f"predict {self.name}")
        return number


def test_models_are_warmed_up_while_nobody_asks(caplog):
    """The first prediction after the start took 3 to 4 seconds, in which OpenVINO compiled its networks."""
    runs = []
    ours, theirs = Pipe()
    models = [StubPredictor("a", runs), StubPredictor("broken", runs)]
    thread = Thread(target=answer_calls, args=(theirs, models))

    ours.send((0, "predict", (7,)))
    thread.start()
    began, ended = ours.recv(), ours.recv()
    while len(runs) < 5 and thread.is_alive():
        time.sleep(0.01)
    ours.close()
    thread.join()

    assert (began, ended) == (Reply(), Reply(value=7))
    warmed_up = ["landscape a", "landscape broken", "portrait a", "portrait broken"]
    assert runs == ["predict a", *warmed_up], "a call that waits comes first"
    assert "broken failed to predict a blank image: blank images are too dark" in caplog.text
