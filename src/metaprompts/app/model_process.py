"""Calls the models, which run in a separate process: one call at a time, each with a time limit."""

import logging
import threading
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from metaprompts.app.settings import Limits, ModelFacts, ModelSettings
from metaprompts.app.worker import Reply, run_models
from metaprompts.errors import InputError

_logger = logging.getLogger(__name__)

_END_SECONDS = 5.0


class ModelProcess:
    """The process that runs the models. The process is restarted if a call takes too long or crashes it.

    Args:
        settings: the models
        limits: the limits, which include the time limit of a call
        target: the function that the process runs
    """

    def __init__(
        self,
        settings: ModelSettings,
        limits: Limits,
        target: Callable[[Connection, ModelSettings, Limits], None] = run_models,
    ) -> None:
        self._settings, self._limits, self._target = settings, limits, target
        self._one_at_a_time = threading.Lock()
        self._process, self._connection = self._start()
        self._is_ready = False

    def wait_until_ready(self) -> list[ModelFacts]:
        """Wait until the models are loaded.

        Raises:
            InputError: a model does not load
            RuntimeError: any other error, with its traceback
        """
        with self._one_at_a_time:
            return self._receive_facts()

    def call(self, index: int, name: str, *arguments: Any) -> Any:
        """Call a method of a model, see `AppPredictor`.

        Args:
            index: index of the model
            name: name of the method
            arguments: arguments of the method

        Raises:
            InputError: raised by the method; or the call took too long or crashed the process
            RuntimeError: any other error, with its traceback
        """
        with self._one_at_a_time:
            if not self._is_ready:
                self._receive_facts()
            try:
                self._connection.send((index, name, arguments))
                # The call begins once the models have been warmed up.
                self._connection.recv()
                if not self._connection.poll(self._limits.timeout_s):
                    self._restart()
                    raise InputError(
                        f"the prediction took longer than {self._limits.timeout_s:g} seconds and was stopped: try a "
                        "smaller image"
                    )
                return _value(self._connection.recv())
            except (EOFError, OSError) as error:
                _logger.warning("the model process died during a prediction; restarting it")
                self._restart()
                raise InputError(
                    "the prediction ended unexpectedly, probably because memory ran out: try a smaller image"
                ) from error

    def stop(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _start(self) -> tuple[BaseProcess, Connection]:
        # A forked process would share the locks of the server's threads.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=self._target, args=(theirs, self._settings, self._limits), daemon=True, name="metaprompts-models"
        )
        process.start()
        theirs.close()
        return process, ours

    def _restart(self) -> None:
        self.stop()
        self._process, self._connection = self._start()
        self._is_ready = False

    def _receive_facts(self) -> list[ModelFacts]:
        try:
            facts: list[ModelFacts] = _value(self._connection.recv())
        except (EOFError, OSError) as error:
            raise InputError(
                "the process that loads the models died, probably out of memory: load fewer or smaller models"
            ) from error
        self._is_ready = True
        return facts


def _value(reply: Reply) -> Any:
    if reply.input_error is not None:
        raise InputError(reply.input_error)
    if reply.bug is not None:
        raise RuntimeError(reply.bug)
    return reply.value
