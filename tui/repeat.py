"""A run again, or what of it did not pass. Rule: the same tasks under the same names, a new run.

Pure: the old run's view goes in, a submission comes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Raw

from ..core.errors import NotFound
from ..core.events import TasksSubmitted
from ..core.ids import random_id, task_id
from ..core.model import ABSENT, task_params
from ..core.submit import GroupPlan, Submission

if TYPE_CHECKING:
    from ..core.follow import RunView

_GOOD = ("passed", "skipped")


def repeat_submission(
    view: RunView, *, publisher: str, task: str | None = None, failed: bool = True
) -> Submission | None:
    """The submission that repeats one task, what did not pass, or all; None when that is nothing.

    Raises `NotFound` when the run has no such task.
    """
    run = view.submission
    if task is not None and view.find(task) is None:
        raise NotFound(
            f"run {view.run[:10]} has no task {task!r}",
            remedy=f"List them with: dtf task ls {view.run[:10]}",
        )
    groups = list(_groups(view, task, failed and task is None))
    if not groups or run is None or run.submitted is None:
        return None
    return Submission(
        publisher=publisher,
        key=f"retry-{view.run[:10]}-{random_id(12)}",
        groups=groups,
        name=run.submitted.name,
        priority=run.submitted.priority,
        labels=run.submitted.labels,
        wait_for_capacity=run.submitted.wait_for_capacity,
        retry_of=view.run,
    )


def _groups(view: RunView, task: str | None, failed: bool) -> Iterator[GroupPlan]:
    chosen: dict[str, tuple[TasksSubmitted, list[int]]] = {}
    for group, index, verdict in view.verdicts():
        if task is not None and task_id(group.group, index) != task:
            continue
        if failed and verdict in _GOOD:
            continue
        chosen.setdefault(group.group, (group, []))[1].append(index)
    for group, indexes in chosen.values():
        yield _group(group, indexes)


def _group(group: TasksSubmitted, indexes: list[int]) -> GroupPlan:
    """The tasks at `indexes` of a group: an array stays one where all of it is repeated."""
    params: list[Raw] = [task_params(group.items, group.axes, index) for index in indexes]
    plain = params[0] is ABSENT
    return GroupPlan(
        name=group.group,
        spec=group.spec,
        label=group.label,
        items=None if plain else params,
        count=len(indexes) if plain and group.count is not None else None,
    )
