"""What is open at the log's head, as the projector remembers it beside the fold.

Rule: a record is made by an event and dropped by the event that turns it into a row for good.

The fold (`core.state`) knows what decides; these records add what only rows need: positions, times,
parameters. Everything else is read from the fold's own objects, which records point to.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from ..core.events import TasksSubmitted, WorkerJoined
from ..core.model import ABSENT, Cause
from ..core.state import VERDICT_CODE, VERDICTS, Attempt, Group, Run, Task

INDEX_BITS = 24
INDEX_END = 1 << INDEX_BITS
SEQUENCE_MAX = (1 << 39) - 1
Row = tuple[Any, ...]


def position(sequence: int, index: int) -> int:
    """Position of an event as one number, ordered like the log."""
    return sequence << INDEX_BITS | index


def text(raw: msgspec.Raw) -> str | None:
    """The JSON behind `raw`, not decoded; None when there is none."""
    return None if raw is ABSENT else str(raw, "utf-8", "replace")


def json_text(value: object) -> str | None:
    """`value` as JSON; None for an empty one."""
    return msgspec.json.encode(value).decode() if value else None


def small(number: int | None) -> int | None:
    """`number` when it fits the 32 bits of its column, else None."""
    return number if number is not None and -(2**31) <= number < 2**31 else None


def wide(number: int | None) -> int | None:
    """`number` when it fits the 64 bits of its column, else None."""
    return number if number is not None and -(2**63) <= number < 2**63 else None


class GroupRecord:
    """A group of an open run."""

    __slots__ = ("group", "pos", "written")

    def __init__(self, group: Group, pos: int) -> None:
        self.group = group
        self.pos = pos
        """`group_pos`: position of its submission."""
        self.written: Row | None = None
        """Its row in `live.tallies`."""

    def tally(self, active: int) -> Row:
        count = self.group.verdicts.count
        return (self.pos, self.group.settled, active, *map(count, VERDICT_CODE.values()))


class TaskRecord(Struct, gc=False, eq=False):
    """An unsettled task that was assigned at least once."""

    task: Task
    group: GroupRecord
    pos: int
    """Position and time of its last change."""
    us: int
    dirty: bool = True
    stored: bool = False
    """It has a row in `live.tasks`."""

    def touch(self, pos: int, us: int) -> None:
        """It changed at `pos`."""
        self.pos, self.us, self.dirty = pos, us, True

    def row(self) -> Row:
        t = self.task
        current = [a for a in t.open if not a.kept]
        if t.finish is not None:
            state = "finished"
        elif current:
            state = "running" if any(a.started for a in current) else "assigned"
        else:
            state = "waiting"
        return (self.group.pos, t.index, state, t.tries, t.failures, t.losses, t.delay_ms,
                self.pos, self.us)  # fmt: skip


class AttemptRecord(Struct, gc=False, eq=False):
    """An open attempt. `head` starts its row, open or closed."""

    attempt: Attempt
    task: TaskRecord | None
    """None when the task was settled already; it may have been settled since."""
    head: Row
    pos: int
    us: int
    started_us: int | None = None
    dirty: bool = True
    stored: bool = False

    def touch(self, pos: int, us: int) -> None:
        """It changed at `pos`."""
        self.pos, self.us, self.dirty = pos, us, True

    @property
    def key(self) -> int:
        """`assigned_pos`: position of the assignment."""
        key: int = self.head[5]
        return key

    def row(self) -> Row:
        a = self.attempt
        state = "running" if a.started else "assigned"
        return (*self.head, self.started_us, self.pos, self.us, state, a.devices or None,
                a.orphaned or None, a.revoked or None)  # fmt: skip

    def closed(self, ending: int, cause: Cause | None, pos: int, us: int) -> Row:
        """The row of an attempt that ended without a finish."""
        code = CAUSE_CODE[cause] if cause is not None else None
        return (*self.head, self.started_us, pos, us, ending, None, code, None, None)

    def extra_row(self, reason: str | None, measured: Row | None = None) -> Row | None:
        """Its row in `fact.extras`, `measured` from `exit_code` on; None when all of it is NULL."""
        a = self.attempt
        told = (a.devices or None, reason or a.orphaned or None, a.revoked or None)
        if measured is None and told == (None, None, None):
            return None
        return (self.head[5], *told, *(measured or NOTHING_MEASURED))


FINISHED, RETURNED, CLOSED = 1, 2, 3
"""How an attempt ended, in `fact.attempts.ending`."""
CAUSE_CODE = {cause: code for code, cause in enumerate(Cause, start=1)}
"""Verdicts, causes and endings are numbers in the two tables that grow with every task: a short
string costs the appender four times as much. The views say the words."""
NOTHING_MEASURED: Row = (None,) * 11
"""exit_code .. output_tail of an attempt that reported none of them."""


class RunRecord:
    """A run that is neither settled nor rejected."""

    __slots__ = (
        "attempts", "by_group", "cancel_us", "closed_us", "dirty", "doomed", "first_us", "groups",
        "opened_us", "pos", "requeues", "run", "stored", "submitted_pos", "submitted_us", "tasks",
        "us",
    )  # fmt: skip

    def __init__(self, run: Run, us: int) -> None:
        self.run = run
        self.groups: dict[str, GroupRecord] = {}
        self.by_group: dict[Group, GroupRecord] = {}
        """The same by the fold's own object: quicker than by name."""
        self.tasks: dict[str, TaskRecord] = {}
        self.attempts = 0
        self.requeues = 0
        self.opened_us = us
        self.submitted_pos: int | None = None
        self.submitted_us: int | None = None
        self.closed_us: int | None = None
        self.cancel_us: int | None = None
        self.first_us: int | None = None
        self.doomed = False
        """The fold holds it for invalid."""
        self.pos = position(run.opened_at, 0)
        self.us = us
        self.dirty = False
        self.stored = False

    def add_group(self, group: Group, pos: int) -> GroupRecord:
        """The run has one group more."""
        record = self.groups[group.name] = self.by_group[group] = GroupRecord(group, pos)
        return record

    @property
    def key(self) -> int:
        """`run_pos`: the message that opened the run."""
        return position(self.run.opened_at, 0)

    def row(
        self,
        state: str = "",
        verdict: str | None = None,
        reason: str | None = None,
        settled_us: int | None = None,
    ) -> Row:
        """Its row: open as it stands, or for good in `state`."""
        run, event = self.run, self.run.submitted
        given: Row = (None,) * 6
        if event is not None:
            given = (event.key, event.name or None, event.priority, json_text(event.labels),
                     event.wait_for_capacity, event.retry_of)  # fmt: skip
        active = 0 if state else len(self.tasks)
        standing = "active" if run.closed or run.streams else "open"
        return (
            run.id, self.key, run.publisher, *given,
            state or standing, verdict, reason or run.invalid or None,
            len(self.groups), run.size, run.size - run.settled_tasks - active, active,
            run.settled_tasks, *[run.counts.get(v, 0) for v in VERDICTS], self.attempts,
            self.requeues, self.opened_us, self.submitted_pos, self.submitted_us, self.closed_us,
            self.cancel_us, self.first_us, settled_us, self.pos, self.us,
        )  # fmt: skip

    def group_row(self, event: TasksSubmitted, pos: int, us: int) -> Row:
        """The row of a group, written once when it is submitted."""
        spec, group = event.spec, self.groups[event.group].group
        kind = "items" if event.items else "axes" if event.axes else "one"
        return (
            pos, self.run.id, self.key, event.part, event.group, event.label or None, group.size,
            "count" if event.count is not None else kind, spec.runner,
            spec.target or " ".join(spec.command), spec.require.hardware,
            msgspec.json.encode(spec).decode(),
            msgspec.json.encode(event.axes).decode() if event.axes else None,
            strides([len(axis.values) for axis in event.axes]) if event.axes else None,
            [str(item, "utf-8", "replace") for item in event.items] if event.items else None, us,
        )  # fmt: skip


def strides(lengths: list[int]) -> list[int]:
    """Distance in tasks of two neighbouring values of each axis; the last axis turns fastest."""
    steps, step = [], 1
    for length in reversed(lengths):
        steps.append(step)
        step *= length
    return steps[::-1]


class WorkerRecord:
    """The current incarnation of a worker."""

    __slots__ = (
        "dirty", "drained", "draining", "ended", "ended_us", "join", "joined_us", "key", "name",
        "pos", "reason", "stored", "us",
    )  # fmt: skip

    def __init__(self, name: str, join: WorkerJoined, pos: int, us: int) -> None:
        self.name = name
        self.join = join
        self.key = pos
        """`worker_pos`: position of its join."""
        self.joined_us = us
        self.draining = False
        self.drained = ""
        self.ended = ""
        self.ended_us: int | None = None
        self.reason = ""
        self.pos = pos
        self.us = us
        self.dirty = False
        self.stored = False

    def row(self) -> Row:
        join = self.join
        state = "drained" if self.drained else "draining" if self.draining else "up"
        return (
            self.key, self.name, join.incarnation, join.hardware, join.cpu_milli, join.memory_bytes,
            len(join.devices), json_text(join.labels), json_text(join.platform),
            join.version or None, join.prefetch, len(join.held), self.ended or state,
            self.drained or None, self.reason or None, self.joined_us, self.ended_us, self.pos,
            self.us,
        )  # fmt: skip
