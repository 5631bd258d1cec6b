"""The tasks by name, including those that other packages register as ``metaprompts.tasks`` entry points.

Importing this module imports neither a task nor PyTorch; a task is imported when it is first used.
"""

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError, one_line
from metaprompts.utils.schema import nearest_name

if TYPE_CHECKING:
    from metaprompts.tasks.base import Task
    from metaprompts.tasks.depth import Depth
    from metaprompts.tasks.normals import Normals
    from metaprompts.tasks.pose import Pose
    from metaprompts.tasks.segmentation import Segmentation

_logger = logging.getLogger(__name__)

_GROUP = "metaprompts.tasks"
_OWN = {
    "segmentation": "metaprompts.tasks.segmentation:Segmentation",
    "depth": "metaprompts.tasks.depth:Depth",
    "pose": "metaprompts.tasks.pose:Pose",
    "normals": "metaprompts.tasks.normals:Normals",
}


@cache
def _found() -> dict[str, EntryPoint]:
    others = {each.name: each for each in entry_points(group=_GROUP)}
    for name in others.keys() & _OWN:
        _logger.warning("task %s of %s is not used: metaprompts has its own", name, others[name].value)
    own = {name: EntryPoint(name, place, _GROUP) for name, place in _OWN.items()}
    return own | {name: others[name] for name in sorted(others.keys() - _OWN)}


class _Tasks(Mapping[str, "type[Task]"]):
    """Task classes by name, imported on access."""

    def __getitem__(self, name: str) -> "type[Task]":
        from metaprompts.tasks.base import Task

        point = _found()[name]
        try:
            task = point.load()
        except Exception as error:
            raise InputError(f"task {name} cannot be imported from {point.value}: {one_line(error)}") from error
        if not (isinstance(task, type) and issubclass(task, Task) and task.name == name):
            raise InputError(f"{point.value} is not a task named {name!r}: expected a subclass of metaprompts' Task")
        return task

    def __iter__(self) -> Iterator[str]:
        return iter(_found())

    def __len__(self) -> int:
        return len(_found())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in _found()


TASKS: Mapping[str, "type[Task]"] = _Tasks()


def task_class(name: Any) -> "type[Task]":
    """The class of a task.

    Raises:
        InputError: there is no task of this name, or it cannot be imported
    """
    if name not in TASKS:
        near = nearest_name(name, list(TASKS), cutoff=0.5) if isinstance(name, str) else None
        meant = f": did you mean {near}?" if near else ""
        raise InputError(f"task.name is {name!r}; expected one of {', '.join(TASKS)}{meant}")
    return TASKS[name]


def importable_tasks() -> "dict[str, type[Task]]":
    """All tasks; those of other packages that cannot be imported are skipped with a warning."""
    found = {}
    for name in TASKS:
        try:
            found[name] = TASKS[name]
        except InputError as error:
            _logger.warning("%s", error)
    return found


def __getattr__(name: str) -> Any:
    places = {"Task": "metaprompts.tasks.base:Task"} | {place.partition(":")[2]: place for place in _OWN.values()}
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = places[name].partition(":")
    return getattr(import_module(module), attribute)


__all__ = ["TASKS", "Depth", "Normals", "Pose", "Segmentation", "Task", "importable_tasks", "task_class"]
