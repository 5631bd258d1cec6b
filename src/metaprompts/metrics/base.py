"""The interface of a task's metric."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar


class Metric(ABC):
    """Scores of a split, updated by `Task.score`; counts are plain values, which can be added in any order."""

    listed: ClassVar[tuple[str, ...]]
    """The scores that are listed for each image."""

    @abstractmethod
    def reset(self) -> None:
        """Discard everything counted."""

    @abstractmethod
    def scores(self) -> dict[str, Any]:
        """The scores over everything counted, by name; nan if nothing was counted."""

    def summary(self) -> dict[str, float]:
        """The `listed` scores."""
        scores = self.scores()
        return {name: scores[name] for name in self.listed}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything counted, as plain values."""

    @abstractmethod
    def add(self, state: Mapping[str, Any]) -> None:
        """Add the `state` of another metric."""
