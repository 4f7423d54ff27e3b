"""Suites: from a file to a submission.

Rule: the file is understood whole before anything is sent, and arrays stay arrays: what the file
says in one line is one event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from .errors import InvalidSuite
from .ids import to_name
from .matrix import Part, count_parts, list_parts, matrix_parts
from .model import Requirement, TaskSpec
from .pytest_files import find_test_files
from .selection import Filters, label_test
from .submit import GROUP_NAME_MAX, GroupPlan, Submission
from .suite_checks import check_files, shipped_files
from .suite_plan import BundlePlan, Suite, TaskPlan
from .suite_reading import read_suite
from .tables import did_you_mean

__all__ = [
    "BundlePlan",
    "Filters",
    "GroupPlan",
    "Suite",
    "TaskPlan",
    "demand_shipped",
    "expand",
    "filter_hints",
    "load_suite",
    "suite_submission",
]
TAIL_ROOM = 6
"""Kept free at the end of a group's name for the pieces of a long list ("-p2" ...)."""


def load_suite(path: Path) -> Suite:
    """The suite in the file, checked: every key known, every value sound, every file it names
    there.

    Raises `InvalidSuite` naming the file, the table, the key, the value and the remedy.
    """
    suite = read_suite(path)
    _distinct_groups(suite)
    check_files(suite)
    return msgspec.structs.replace(suite, tasks=[_with_files(suite, task) for task in suite.tasks])


def _with_files(suite: Suite, task: TaskPlan) -> TaskPlan:
    """The task; one of pytest with a task for each of its files.

    Raises `InvalidSuite` for files that are not there, and where there is none.
    """
    if task.pytest is None:
        return task
    root = suite.bundle.root if suite.bundle is not None else suite.path.parent.resolve()
    found = find_test_files(root, task.pytest)
    place = f"{suite.path}: task {task.label!r}: pytest"
    if found.missing:
        raise InvalidSuite(f"{place}: no file {found.missing[0]!r} below {root}")
    if not found.files:
        raise InvalidSuite(
            f"{place}: no test file below {root} for {' '.join(task.pytest) or '(no words)'!r}",
            remedy="Name a file or a directory with test_*.py files.",
        )
    spec = msgspec.structs.replace(task.spec, args=found.args, history=suite.name)
    params = [
        {"files": [{"path": path, "ids": ids} if ids else {"path": path}]}
        for path, ids in found.files.items()
    ]
    return msgspec.structs.replace(task, spec=spec, params=params)


def expand(suite: Suite, filters: Filters | None = None) -> list[GroupPlan]:
    """The groups to submit, in the order of the file, one for each requirement of a task; empty
    when nothing is chosen.

    A count or a plain matrix stays one line, also when filters take values of its axes away; an
    expression that takes single tasks away writes the rest out. Raises `InvalidSuite` for an
    expression that makes no sense.
    """
    chosen = filters or Filters()
    label_test(chosen.expression)
    return [plan for task in suite.tasks for plan in _groups(task, chosen)]


def suite_submission(
    suite: Suite,
    plans: Sequence[GroupPlan],
    *,
    publisher: str,
    key: str,
    bundle: str | None = None,
    priority: int | None = None,
    labels: dict[str, str] | None = None,
    retry_of: str | None = None,
) -> Submission:
    """The run that submits these plans of the suite; `bundle` is the digest of its working tree.

    `priority` replaces the suite's, `labels` are added to its own.
    """
    groups = plans
    if bundle is not None:
        replace = msgspec.structs.replace
        groups = [replace(plan, spec=replace(plan.spec, bundle=bundle)) for plan in plans]
    return Submission(
        publisher=publisher,
        key=key,
        groups=groups,
        name=suite.name,
        priority=suite.priority if priority is None else priority,
        labels={**suite.labels, **(labels or {})},
        wait_for_capacity=suite.wait_for_capacity,
        retry_of=retry_of,
    )


def demand_shipped(suite: Suite, files: Sequence[str]) -> None:
    """Raises `InvalidSuite` when a file that a task names exists, but is not among those of the
    packed bundle.
    """
    if suite.bundle is None:
        return
    packed = set(files)
    for task in suite.tasks:
        for name in shipped_files(task, suite.bundle.root) if task.check else ():
            if name not in packed:
                raise InvalidSuite(
                    f"{suite.path}: task {task.label!r}: {name} exists but is not shipped",
                    remedy="A .gitignore or the bundle's `exclude` leaves it out: change that.",
                )


def filter_hints(suite: Suite, filters: Filters) -> list[str]:
    """Why filters choose nothing, as far as single filters go; for messages."""
    hints = []
    known = _axis_values(suite)
    for name, patterns in filters.axes.items():
        if name not in known:
            hints.append(f"no task has a parameter {name!r}. {did_you_mean(name, known)}".strip())
            continue
        for pattern in patterns:
            if not any(expand(suite, Filters(axes={name: [pattern]}))):
                near = did_you_mean(pattern, known[name])
                hints.append(f"no task has {name}={pattern}. {near}".strip())
    classes = list(dict.fromkeys(name for task in suite.tasks for name in task.classes))
    for pattern in filters.hardware:
        if not any(expand(suite, Filters(hardware=[pattern]))):
            hints.append(f"no task needs {pattern}. The suite has: {', '.join(classes)}")
    if filters.expression and not any(expand(suite, Filters(expression=filters.expression))):
        hints.append(f"no task's name matches {filters.expression!r}")
    return hints


def _groups(task: TaskPlan, filters: Filters) -> Iterator[GroupPlan]:
    fixed = task.spec.require.hardware
    if task.matrix is not None:
        parts = matrix_parts(task.matrix, task.label, filters, fixed)
    elif task.params is not None:
        parts = list_parts(task.params, task.label, filters, fixed)
    else:
        parts = [
            msgspec.structs.replace(part, hardware=name)
            for name in task.classes
            for part in count_parts(task.count, task.label, filters, name)
        ]
    for part in parts:
        yield _plan(task, part, part.hardware or fixed)


def _plan(task: TaskPlan, part: Part, hardware: str) -> GroupPlan:
    several = len(task.classes) > 1
    counted = task.matrix is None and task.params is None
    return GroupPlan(
        name=group_name(task.label, hardware if several else ""),
        label=f"{task.label}@{hardware}" if several and counted else task.label,
        spec=_spec_for(task.spec, hardware),
        items=part.items,
        axes=part.axes,
        count=part.count,
    )


def _spec_for(spec: TaskSpec, hardware: str) -> TaskSpec:
    """The specification for one hardware class; a cpu has no devices to reserve."""
    require: Requirement = spec.require
    if hardware == "cpu":
        require = msgspec.structs.replace(require, devices=None, device_memory_bytes=0)
    require = msgspec.structs.replace(require, hardware=hardware)
    return spec if require == spec.require else msgspec.structs.replace(spec, require=require)


def group_name(label: str, hardware: str = "") -> str:
    """The token for a task's name, with its hardware class where it has several.

    Two names never share one.
    """
    name = to_name(label)
    tail = f"-{hardware}" if hardware else ""
    room = GROUP_NAME_MAX - TAIL_ROOM - len(tail)
    if len(name) > room:
        digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name[: room - 9].rstrip('-_')}-{digest}"
    return name + tail


def _distinct_groups(suite: Suite) -> None:
    """No two tasks may make groups of one name."""
    owners: dict[str, str] = {}
    for task in suite.tasks:
        several = len(task.classes) > 1
        for hardware in task.classes:
            name = group_name(task.label, hardware if several else "")
            if name in owners:
                raise InvalidSuite(
                    f"{suite.path}: task {task.label!r}: another task is called "
                    f"{owners[name]!r}: both would be the group {name!r}",
                    remedy="Give each task a name of its own.",
                )
            owners[name] = task.label


def _axis_values(suite: Suite) -> dict[str, list[str]]:
    """Parameter -> its values as text, over the whole suite."""
    from .placeholders import shown_value

    values: dict[str, dict[str, None]] = {}
    for task in suite.tasks:
        entries = [(k, v) for each in task.params or () for k, v in each.items()]
        if task.matrix is not None:
            entries += [(k, v) for k, axis in task.matrix.axes.items() for v in axis]
            entries += [(k, v) for each in task.matrix.include for k, v in each.items()]
        for name, value in entries:
            values.setdefault(name, {})[shown_value(value)] = None
    return {name: list(found) for name, found in values.items()}
