"""Segmentation, depth and pose, each behind the same small interface."""

from metaprompts.tasks.base import Task
from metaprompts.tasks.depth import Depth
from metaprompts.tasks.pose import Pose
from metaprompts.tasks.segmentation import Segmentation

TASKS: dict[str, type[Task]] = {task.name: task for task in (Segmentation, Depth, Pose)}

__all__ = ["TASKS", "Depth", "Pose", "Segmentation", "Task"]
