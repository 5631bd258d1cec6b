"""The process that runs the models: it answers one call at a time."""

import logging
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from metaprompts.app.settings import Limits, ModelSettings
from metaprompts.errors import InputError, one_line
from metaprompts.utils.multiprocessing import prepare_worker

_logger = logging.getLogger(__name__)

CALLS = ("predict", "heatmap", "steps")
"""The methods of `AppPredictor` that the page calls."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a call.

    Attributes:
        value: what the method returned
        input_error: one line on what was wrong with the input; None if it was valid
        bug: the traceback of any other error; None if there was none
    """

    value: Any = None
    input_error: str | None = None
    bug: str | None = None


def run_models(connection: Connection, settings: ModelSettings, limits: Limits) -> None:
    """Load the models, send their facts, and answer calls until the connection closes.

    Args:
        connection: receives (index of the model, name of a method, its arguments), and sends a `Reply` to each
        settings: the models
        limits: limits on requests
    """
    prepare_worker()
    try:
        from metaprompts.app.predictor import load_predictors

        predictors = load_predictors(settings, limits)
    except Exception as error:
        connection.send(_failure(error))
        return
    connection.send(Reply(value=[predictor.facts for predictor in predictors]))
    while True:
        try:
            index, name, arguments = connection.recv()
        except (EOFError, OSError):
            return
        assert name in CALLS
        try:
            reply = Reply(value=getattr(predictors[index], name)(*arguments))
        except Exception as error:
            reply = _failure(error)
        connection.send(reply)


def _failure(error: Exception) -> Reply:
    if isinstance(error, InputError):
        return Reply(input_error=one_line(error))
    return Reply(bug="".join(traceback.format_exception(error)))
