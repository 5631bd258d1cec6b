"""Training callbacks."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Callback:
    """Base class of callbacks, whose methods do nothing unless a subclass overrides them.

    Only the first process of a run calls them. An exception ends the run; its last checkpoint is kept.
    """

    def on_message(self, lines: Sequence[str]) -> None:
        """Called with lines about the data or the run."""

    def on_train_begin(self, model: "nn.Module", steps: int, about: str = "") -> None:
        """Called before the first step.

        Args:
            model: the model that is trained, on its device
            steps: number of the last step
            about: description of how a batch is split
        """

    def on_step_end(
        self,
        model: "nn.Module",
        step: int,
        losses: dict[str, float],
        *,
        lr: float,
        images: int,
        seconds: float,
        waited: float | None = None,
    ) -> None:
        """Called after each step.

        Args:
            model: the model; with training.fsdp its parameters are shards
            step: number of the step, from 1
            losses: the loss terms and their sum, "total", as means over all processes
            lr: learning rate
            images: images in the batch, over all processes
            seconds: duration of the step
            waited: the part of ``seconds`` that was spent waiting for images; None if unknown
        """

    def on_validation_begin(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Called with the batches of a validation; must yield them unchanged."""
        return batches

    def on_validation_end(self, model: "nn.Module", step: int, metrics: dict[str, Any]) -> None:
        """Called after each validation.

        Args:
            model: the model that was validated, with the averaged weights if training.ema_decay is set
            step: number of the step after which the model was validated
            metrics: as in metrics.json
        """

    def on_train_end(self) -> None:
        """Called at the end, whether the run finished, was stopped or failed."""


class CallbackList(Callback):
    """Calls several callbacks, in order.

    Args:
        callbacks: the callbacks to call
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        for name in ("on_message", "on_train_begin", "on_step_end", "on_validation_end", "on_train_end"):
            setattr(self, name, partial(self._call_each, name))

    def _call_each(self, name: str, *arguments: Any, **facts: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, name)(*arguments, **facts)

    def on_validation_begin(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Pass the batches through each."""
        for callback in self._callbacks:
            batches = callback.on_validation_begin(batches)
        return batches
