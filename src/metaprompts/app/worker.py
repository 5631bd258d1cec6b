"""The process that runs the models: it answers one call at a time."""

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from metaprompts.app.settings import Limits, ModelSettings
from metaprompts.errors import InputError, one_line
from metaprompts.utils.multiprocessing import prepare_worker

if TYPE_CHECKING:
    from metaprompts.app.predictor import AppPredictor

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
        connection: see `answer_calls`
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
    answer_calls(connection, predictors)


def answer_calls(connection: Connection, predictors: Sequence["AppPredictor"]) -> None:
    """Warm up the models while there are no calls, and answer calls until the connection closes.

    Args:
        connection: receives (index of the model, name of a method, its arguments); sends an empty `Reply` when a call
            begins, and its own `Reply` when it ends
        predictors: the models
    """
    cold = [(predictor, portrait) for portrait in (False, True) for predictor in predictors]
    while True:
        # An engine compiles its networks for each new shape, which takes seconds.
        while cold and not connection.poll():
            _warm_up(*cold.pop(0))
        try:
            index, name, arguments = connection.recv()
        except (EOFError, OSError):
            return
        assert name in CALLS
        connection.send(Reply())
        try:
            reply = Reply(value=getattr(predictors[index], name)(*arguments))
        except Exception as error:
            reply = _failure(error)
        connection.send(reply)


def _warm_up(predictor: "AppPredictor", portrait: bool) -> None:
    try:
        predictor.warm_up(portrait=portrait)
    except Exception as error:
        # The first requested prediction would report the error, too.
        _logger.warning("%s failed to predict a blank image: %s", predictor.name, one_line(error))


def _failure(error: Exception) -> Reply:
    if isinstance(error, InputError):
        return Reply(input_error=one_line(error))
    return Reply(bug="".join(traceback.format_exception(error)))
