"""The paper's tasks, each a frozen dataclass that draws batches and scores a model's output."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from wrnn.errors import WrnnError, check_choice, shown
from wrnn.tasks.adding import AddingTask
from wrnn.tasks.base import Task
from wrnn.tasks.copying import CopyTask
from wrnn.tasks.images import SequentialDigits, SequentialMNIST
from wrnn.tasks.noisy import NoisySequentialCIFAR10, NoisySequentialDigits

__all__ = [
    "TASKS",
    "AddingTask",
    "CopyTask",
    "NoisySequentialCIFAR10",
    "NoisySequentialDigits",
    "SequentialDigits",
    "SequentialMNIST",
    "Task",
    "task_from_dict",
]

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        CopyTask,
        AddingTask,
        SequentialMNIST,
        NoisySequentialCIFAR10,
        SequentialDigits,
        NoisySequentialDigits,
    )
}


def task_from_dict(description: Mapping[str, Any]) -> Task:
    """The task that `Task.to_dict` described: {"name": ..., and the task's fields}.

    Raises WrnnError for an unknown task, an unknown, missing or wrong field.

    >>> task_from_dict({"name": "copy", "lag": 20}).length
    30
    """
    if not isinstance(description, Mapping):
        raise WrnnError(f"a task is described by a mapping, not {shown(description)}")
    settings = dict(description)
    name = settings.pop("name", None)
    check_choice("task name", name, tuple(TASKS))
    allowed = [field.name for field in fields(TASKS[name])]
    for key in settings:
        check_choice(f"a setting of task {name!r}", key, tuple(allowed))
    try:
        return TASKS[name](**settings)
    except TypeError as error:
        raise WrnnError(f"task {name!r} lacks a setting: {error}") from error
