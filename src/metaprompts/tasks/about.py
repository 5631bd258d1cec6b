"""A task's texts in the demo report."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class About:
    """Texts about a task in the demo report.

    Attributes:
        title: title of the task
        text: explanation of the task's images
        scores: metric -> what it measures
        constant: description of `Task.constant_output`
    """

    title: str
    text: str
    scores: Mapping[str, str]
    constant: str
