"""The state of a pool: what the log says so far.

Rule: only `evolve` changes it, and it can be rebuilt from the log.

Compact on purpose: a task that was never assigned is one byte of its group; a `Task` lives from its
first assignment to its settlement. Everything here is integers, strings and containers of them, so
a canonical encoding (`digest`) is the same on every machine.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from .events import RunSealed, RunSubmitted, TasksSubmitted, WorkerJoined
from .model import Cause, TaskSpec, Verdict, array_length

VERDICTS = tuple(Verdict)
VERDICT_CODE = {verdict: code for code, verdict in enumerate(VERDICTS, start=1)}
"""Codes in `Group.verdicts`; 0 is unsettled. The order of `Verdict` is part of the fold: append
only."""


class Finish(msgspec.Struct, gc=False):
    """A valid end of an attempt, waiting for the leader's ruling."""

    token: str
    sequence: int
    index: int
    verdict: Verdict
    cause: Cause


class Group:
    """A submitted group of tasks."""

    __slots__ = ("finishes", "mean_us", "name", "settled", "size", "submitted", "verdicts")

    def __init__(self, submitted: TasksSubmitted) -> None:
        self.submitted = submitted
        self.name = submitted.group
        self.size = array_length(submitted.items, submitted.axes, submitted.count)
        self.verdicts = bytearray(self.size)
        self.settled = 0
        self.finishes = 0
        self.mean_us = 0
        """Running mean of attempt durations, weight 1/8: how small these tasks are."""

    @property
    def spec(self) -> TaskSpec:
        return self.submitted.spec


class Task(msgspec.Struct, eq=False, gc=False):
    """A task from its first assignment until it is settled and its last attempt has ended."""

    run: Run
    group: Group
    index: int
    id: str
    tries: int = 0
    """Number of the last attempt."""
    failures: int = 0
    """Requeues that counted against `retries`."""
    losses: int = 0
    """Requeues that counted against `infra_retries`."""
    delay_ms: int = 0
    """Least wait before the next assignment, from the ruling that requeued it."""
    open: list[Attempt] = []
    finish: Finish | None = None
    settled: bool = False

    @property
    def waiting(self) -> bool:
        """It waits for an assignment."""
        return not self.settled and self.finish is None and all(a.kept for a in self.open)


class Attempt(msgspec.Struct, eq=False, gc=False):
    """An open attempt: assigned, and neither finished, returned nor closed by a ruling."""

    task: Task
    token: str
    number: int
    worker: str
    incarnation: str
    devices: list[str]
    assigned_at: int
    """Log sequence of the assignment."""
    next_n: int = 0
    """Number of the next event of the attempt (protocol A2)."""
    started: bool = False
    revoked: str = ""
    """"", "steal" or "cancel"."""
    orphaned: str = ""
    """Why its incarnation is over: it reserves nothing and awaits a ruling."""
    kept: bool = False
    """A requeue left it open: the first finish counts."""


class Run:
    """A run from its first event until it is forgotten.

    Settled runs keep identity, verdict and counts only.
    """

    __slots__ = (
        "cancel_at", "cancel_tasks", "closed", "closed_at", "counts", "digest", "groups", "id",
        "invalid", "opened_at", "parts", "publisher", "sealed", "settled", "settled_tasks", "size",
        "submitted", "tasks",
    )  # fmt: skip

    def __init__(self, run: str, publisher: str, at: int) -> None:
        self.id = run
        self.publisher = publisher
        self.opened_at = at
        """Log sequence of its first event."""
        self.submitted: RunSubmitted | None = None
        self.digest = ""
        self.parts: dict[int, str] = {}
        self.sealed: RunSealed | None = None
        self.groups: dict[str, Group] = {}
        self.size = 0
        """Tasks submitted so far."""
        self.invalid = ""
        """Why the leader must reject it."""
        self.closed = False
        """All parts are in; its tasks may be scheduled (those of a streamed run before, too)."""
        self.closed_at = 0
        self.cancel_at = 0
        """Log sequence of the request that cancelled the run; 0 while nobody asked."""
        self.cancel_tasks: dict[str, int] = {}
        """Cancelled tasks that are not settled yet, with the log sequence of the request."""
        self.tasks: dict[str, Task] = {}
        self.counts: dict[str, int] = {}
        self.settled_tasks = 0
        self.settled = ""
        """"", or the run's verdict; "rejected" when its submission was refused."""

    @property
    def priority(self) -> int:
        return self.submitted.priority if self.submitted else 0

    @property
    def streams(self) -> bool:
        """It is still open, and its tasks may be scheduled all the same."""
        return not self.closed and self.submitted is not None and self.submitted.streamed

    def find(self, task: str) -> tuple[Group, int] | None:
        """(group, index) of a task id of this run, or None."""
        name, _, digits = task.rpartition("-")
        group = self.groups.get(name)
        if group is None:
            return None
        try:
            index = int(digits)
        except ValueError:
            return None
        # One task has one id: no sign, no leading zero, no digits of other scripts.
        return (group, index) if index < group.size and str(index) == digits else None

    def drop_content(self) -> None:
        """Forget what a settled run no longer needs. Its open attempts live on in `Pool.open`."""
        self.parts, self.groups, self.tasks, self.cancel_tasks = {}, {}, {}, {}
        self.sealed = None


INCARNATIONS_REMEMBERED = 16
"""Earlier incarnations of a worker that cannot join again: a late copy of an old join is void."""


class Worker:
    """The current incarnation of a worker."""

    __slots__ = (
        "drained", "draining", "ended", "incarnation", "join", "joined_at", "name", "open", "past",
    )  # fmt: skip

    def __init__(self, name: str, join: WorkerJoined, at: int) -> None:
        self.name = name
        self.join = join
        self.incarnation = join.incarnation
        self.joined_at = at
        self.draining = False
        """The agent said it takes no more."""
        self.drained = ""
        """An operator's reason, while it is out of rotation; survives a new incarnation."""
        self.ended = ""
        """"", "left" or "lost"."""
        self.open: dict[str, Attempt] = {}
        """Its open attempts by token, those of earlier incarnations included."""
        self.past: tuple[str, ...] = ()
        """Its last earlier incarnations, at most `INCARNATIONS_REMEMBERED`."""

    @property
    def assignable(self) -> bool:
        return not (self.ended or self.draining or self.drained)


class Pool:
    """The whole state: a pure function of the log up to `sequence`."""

    __slots__ = (
        "admins",
        "coordinator",
        "elected_at",
        "fold_version",
        "incomplete_ms",
        "name",
        "nonce",
        "open",
        "remember_ms",
        "runs",
        "sequence",
        "term",
        "uuid",
        "voids",
        "workers",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.uuid = ""
        self.sequence = 0
        """Log sequence of the last message folded."""
        self.term = 0
        self.coordinator = ""
        self.nonce = ""
        self.elected_at = 0
        self.fold_version = 0
        self.admins: list[str] = ["admin"]
        self.remember_ms = 7 * 24 * 3600 * 1000
        self.incomplete_ms = 3600 * 1000
        self.runs: dict[str, Run] = {}
        self.workers: dict[str, Worker] = {}
        self.open: dict[str, Attempt] = {}
        """Open attempts by token."""
        self.voids: dict[str, int] = {}
        """Void events by reason: all that hostile input can change."""

    def __del__(self) -> None:
        # The garbage collector does not look into tasks and attempts, which point at each other.
        for attempt in self.open.values():
            attempt.task.open.clear()
        for run in self.runs.values():
            run.tasks.clear()

    def index_open(self) -> None:
        """`Worker.open` says what `open` says. For whoever restores a pool from elsewhere."""
        for worker in self.workers.values():
            worker.open = {}
        for token, attempt in self.open.items():
            self.workers[attempt.worker].open[token] = attempt


def _canonical_run(run: Run) -> dict[str, Any]:
    return {
        "publisher": run.publisher,
        "opened": run.opened_at,
        "digest": run.digest,
        "parts": {str(part): digest for part, digest in run.parts.items()},
        "sealed": [run.sealed.parts, run.sealed.tasks] if run.sealed else None,
        "groups": {
            name: [group.size, group.verdicts.hex(), group.settled, group.finishes, group.mean_us]
            for name, group in run.groups.items()
        },
        "size": run.size,
        "invalid": bool(run.invalid),  # the text is a parser's, for people
        "closed": run.closed_at if run.closed else None,
        "cancel": [run.cancel_at, run.cancel_tasks],
        "tasks": {name: _canonical_task(task) for name, task in run.tasks.items()},
        "counts": run.counts,
        "settled": [run.settled_tasks, run.settled],
    }


def _canonical_task(task: Task) -> list[Any]:
    finish = task.finish
    return [
        task.tries, task.failures, task.losses, task.delay_ms, task.settled,
        [attempt.token for attempt in task.open],
        [finish.token, finish.sequence, finish.index, finish.verdict, finish.cause]
        if finish else None,
    ]  # fmt: skip


def _canonical_attempt(a: Attempt) -> list[Any]:
    return [
        a.task.run.id, a.task.id, a.number, a.worker, a.incarnation, a.devices, a.assigned_at,
        a.next_n, a.started, a.revoked, a.orphaned, a.kept,
    ]  # fmt: skip


def canonical(pool: Pool) -> dict[str, Any]:
    """The state as plain values without floats; equal states give equal encodings (protocol F9)."""
    return {
        "name": pool.name,
        "uuid": pool.uuid,
        "sequence": pool.sequence,
        "leader": [pool.term, pool.coordinator, pool.nonce, pool.elected_at, pool.fold_version],
        "settings": [pool.admins, pool.remember_ms, pool.incomplete_ms],
        "runs": {name: _canonical_run(run) for name, run in pool.runs.items()},
        "workers": {
            name: [w.incarnation, w.joined_at, w.draining, w.drained, w.ended, w.past]
            for name, w in pool.workers.items()
        },
        "open": {token: _canonical_attempt(attempt) for token, attempt in pool.open.items()},
        "voids": pool.voids,
    }


def digest(pool: Pool) -> str:
    """SHA-256 of the canonical encoding, hex.

    Cost: proportional to the state; not for the hot path.
    """
    encoded = msgspec.json.encode(canonical(pool), order="deterministic")
    return hashlib.sha256(encoded).hexdigest()
