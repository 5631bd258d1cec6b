"""Stand-ins for the process that runs the app's models; without torch, so they start fast."""

import os
import time

from metaprompts.app.settings import ModelFacts
from metaprompts.app.worker import Reply
from metaprompts.errors import InputError

FACTS = ModelFacts(name="stub", task="depth", prompts=4, steps=1, reads_captions=False, engine="engine: stub")


def run_stub(connection, settings, limits):
    """Answer by the name of the call."""
    connection.send(Reply(value=[FACTS]))
    while True:
        try:
            _, name, arguments = connection.recv()
        except EOFError:
            return
        connection.send(Reply())
        if name == "sleep":
            time.sleep(60)
        if name == "die":
            os._exit(9)
        if name == "bad":
            connection.send(Reply(input_error="the image is bad"))
        elif name == "bug":
            connection.send(Reply(bug="Traceback: a bug"))
        else:
            connection.send(Reply(value=(name, *arguments)))


def fail_to_load(connection, settings, limits):
    """A model that does not exist."""
    connection.send(Reply(input_error=str(InputError("no model at nowhere"))))


def end_while_loading(connection, settings, limits):
    """Memory runs out."""
    os._exit(9)
