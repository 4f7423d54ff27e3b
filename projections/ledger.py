"""What is open and what waits to be written, beside the fold it comes from.

Rule: `rows.feed` alone changes it, message by message; `take` hands over what a commit writes.

Finished things became rows of `fact.*` at once; what is open becomes rows of `live.*` when somebody
asks. Taking often or rarely changes no row (protocol F8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..core.events import RangeSettled
from ..core.evolve import STEPS
from ..core.fold import Fold
from ..core.model import Cause
from ..core.state import Pool
from ..core.subjects import Subject
from .records import AttemptRecord, Row, RunRecord, TaskRecord, WorkerRecord, position

FACTS = (
    "groups", "attempts", "extras", "tasks", "ranges", "runs", "tallies", "cases", "measurements",
    "artifacts", "requeues", "workers", "devices", "leaders", "settings", "cancels", "drains",
    "rejections", "forgotten", "voids", "digests",
)  # fmt: skip
LIVE_KEYS = {
    "attempts": ("assigned_pos",),
    "tasks": ("group_pos", "task_index"),
    "tallies": ("group_pos",),
    "runs": ("run_pos",),
    "workers": ("worker_pos",),
}
"""What names a row of a `live` table."""
_ZEROS = re.compile(rb"\0+")
_SET = re.compile(rb"[^\0]+")


class LiveChange(NamedTuple):
    """Rows of one `live` table that go (by key) and come."""

    gone: list[Row]
    rows: list[Row]


class Delta(NamedTuple):
    """What a commit writes."""

    facts: dict[str, list[Row]]
    live: dict[str, LiveChange]

    @property
    def size(self) -> int:
        """Rows that are added."""
        return sum(map(len, self.facts.values())) + sum(len(c.rows) for c in self.live.values())


class Ledger:
    """What is open, the rows that wait to be written, and the fold they come from."""

    def __init__(self, name: str, pool: Pool | None = None) -> None:
        self.spans: dict[int, list[tuple[int, int]]] = {}
        """Position of a RangeSettled -> the tasks it settled, as spans; until its row is made."""
        self.fold = Fold(name, pool, {**STEPS, RangeSettled: self._range_step})
        self.pool = self.fold.pool
        self.runs: dict[str, RunRecord] = {}
        self.attempts: dict[str, AttemptRecord] = {}
        self.workers: dict[str, WorkerRecord] = {}
        self.facts: dict[str, list[Row]] = {name: [] for name in FACTS}
        self.dirty_runs: list[RunRecord] = []
        self.dirty_workers: list[WorkerRecord] = []
        self.gone: dict[str, list[Row]] = {name: [] for name in LIVE_KEYS}

    def _range_step(
        self, pool: Pool, subject: Subject, event: RangeSettled, sequence: int, index: int
    ) -> str:
        """The fold's step, watched: only the state before it tells which tasks it settled."""
        run = pool.runs.get(subject.run)
        group = run.groups.get(event.group) if run is not None else None
        before = bytes(group.verdicts[event.start : event.stop]) if group is not None else b""
        reason = STEPS[RangeSettled](pool, subject, event, sequence, index)
        if not reason and group is not None:
            after = bytes(group.verdicts[event.start : event.stop])
            spans = list(settled_spans(before, after, event.start))
            self.spans[position(sequence, index)] = spans
        return reason

    # -- what a commit writes ----------------------------------------------------------------------
    @property
    def waiting(self) -> int:
        """Rows of facts that wait to be written."""
        return sum(map(len, self.facts.values()))

    def take(self) -> Delta:
        """Everything new since the last call, for one transaction; it counts as stored from now."""
        facts = {name: rows for name, rows in self.facts.items() if rows}
        self.facts = {name: [] for name in FACTS}
        live = {
            "attempts": self._take(self.attempts.values(), "attempts"),
            "tasks": self._take_tasks(),
            "tallies": self._take_tallies(),
            "runs": self._take(self.dirty_runs, "runs"),
            "workers": self._take(self.dirty_workers, "workers"),
        }
        self.dirty_runs, self.dirty_workers = [], []
        self.gone = {name: [] for name in LIVE_KEYS}
        return Delta(facts, {name: each for name, each in live.items() if each.gone or each.rows})

    def _take(
        self, records: Iterable[AttemptRecord | RunRecord | WorkerRecord], table: str
    ) -> LiveChange:
        gone, rows = self.gone[table], []
        for record in records:
            if not record.dirty:
                continue
            record.dirty = False
            if record.stored:
                gone.append((record.key,))
            record.stored = True
            rows.append(record.row())
        return LiveChange(gone, rows)

    def _take_tasks(self) -> LiveChange:
        gone, rows = self.gone["tasks"], []
        for run in self.runs.values():
            for record in run.tasks.values():
                if not record.dirty:
                    continue
                record.dirty = False
                if record.stored:
                    gone.append((record.group.pos, record.task.index))
                record.stored = True
                rows.append(record.row())
        return LiveChange(gone, rows)

    def _take_tallies(self) -> LiveChange:
        gone, rows = self.gone["tallies"], []
        for run in self.dirty_runs:
            if not run.dirty:
                continue
            active: dict[str, int] = {}
            for task in run.tasks.values():
                name = task.group.group.name
                active[name] = active.get(name, 0) + 1
            for name, group in run.groups.items():
                row = group.tally(active.get(name, 0))
                if row != group.written:
                    if group.written is not None:
                        gone.append((group.pos,))
                    group.written = row
                    rows.append(row)
        return LiveChange(gone, rows)

    # -- what handlers do to records ---------------------------------------------------------------
    def touch_run(self, record: RunRecord, pos: int, us: int) -> None:
        """The run changed at `pos`."""
        record.pos, record.us = pos, us
        if not record.dirty:
            record.dirty = True
            self.dirty_runs.append(record)

    def drop_task(self, record: TaskRecord) -> None:
        """The task, taken from its run, is open no more."""
        if record.stored:
            self.gone["tasks"].append((record.group.pos, record.task.index))

    def drop_attempt(self, record: AttemptRecord) -> None:
        """The attempt, taken from `attempts`, is open no more."""
        if record.stored:
            self.gone["attempts"].append((record.key,))

    def add_extra(
        self, record: AttemptRecord, reason: str | None, measured: Row | None = None
    ) -> None:
        """What the ended attempt has besides, where there is anything, has its row."""
        row = record.extra_row(reason, measured)
        if row is not None:
            self.facts["extras"].append(row)

    def close_attempt(
        self,
        record: AttemptRecord,
        ending: int,
        cause: Cause | None,
        reason: str | None,
        pos: int,
        us: int,
    ) -> None:
        """The attempt, taken from `attempts`, ended without a finish and has its rows."""
        self.facts["attempts"].append(record.closed(ending, cause, pos, us))
        self.add_extra(record, reason)
        self.drop_attempt(record)

    def touch_worker(self, record: WorkerRecord, pos: int, us: int) -> None:
        """The incarnation changed at `pos`."""
        record.pos, record.us = pos, us
        if not record.dirty:
            record.dirty = True
            self.dirty_workers.append(record)

    def end_worker(self, record: WorkerRecord) -> None:
        """The incarnation has its row for good: another one follows."""
        self.facts["workers"].append(record.row())
        record.dirty = False
        if record.stored:
            self.gone["workers"].append((record.key,))

    def end_run(
        self, record: RunRecord, state: str, verdict: str | None, reason: str, pos: int, us: int
    ) -> None:
        """The run and its groups have their rows for good; its records are gone."""
        record.pos, record.us = pos, us
        self.facts["runs"].append(record.row(state, verdict, reason or None, us))
        self.facts["tallies"] += [group.tally(0) for group in record.groups.values()]
        self._drop_run(record)

    def _drop_run(self, record: RunRecord) -> None:
        if self.runs.get(record.run.id) is record:
            del self.runs[record.run.id]
        for task in record.tasks.values():
            self.drop_task(task)
        record.tasks = {}
        self.gone["tallies"] += [(g.pos,) for g in record.groups.values() if g.written is not None]
        record.dirty = False
        if record.stored:
            self.gone["runs"].append((record.key,))


def settled_spans(before: bytes, after: bytes, start: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of each stretch that was 0 before and is not after."""
    for free in _ZEROS.finditer(before):
        for taken in _SET.finditer(after, free.start(), free.end()):
            yield start + taken.start(), start + taken.end()
