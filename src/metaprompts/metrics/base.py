"""The interface of a task's metric."""

from collections.abc import Mapping
from typing import Any, Protocol


class Metric(Protocol):
    """Scores of a split, updated by `Task.score`; counts are plain values, which can be added in any order."""

    def reset(self) -> None:
        """Discard everything counted."""

    def scores(self) -> dict[str, Any]:
        """The scores over everything counted, by name; nan if nothing was counted."""

    def summary(self) -> dict[str, float]:
        """The scores that are listed for each image."""

    def state(self) -> dict[str, Any]:
        """Everything counted, as plain values."""

    def add(self, state: Mapping[str, Any]) -> None:
        """Add the `state` of another metric."""
