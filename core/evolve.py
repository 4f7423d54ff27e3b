"""The fold's one step: `evolve(pool, subject, event, sequence, index)` folds one event.

It returns "" when the event counts, else why it is void. Rule: total and deterministic. No clock,
randomness or configuration; everything is checked before anything is changed; a void event changes
nothing. Each rule of the protocol is named where it is kept. All steps have one signature, so one
table holds them; each takes what it needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from . import events as e
from .codec import encode_event
from .errors import FoldVersionError
from .ids import run_id, split_token
from .model import (
    INFRASTRUCTURE,
    RUN_TASKS_MAX,
    Cause,
    Verdict,
    array_length,
    array_problem,
    spec_problem,
)
from .state import VERDICT_CODE, Attempt, Finish, Group, Pool, Run, Task, Worker
from .subjects import Subject

VALID = ""


def _digest(event: e.Event) -> str:
    return hashlib.blake2b(encode_event(event), digest_size=12).hexdigest()


# -- pool and leader -------------------------------------------------------------------------------
def _pool_created(
    pool: Pool, subject: Subject, event: e.PoolCreated, sequence: int, index: int
) -> str:
    if pool.uuid:
        return "duplicate"
    if event.name != pool.name:
        return "other_pool"
    pool.uuid = event.uuid
    return VALID


def _pool_configured(
    pool: Pool, subject: Subject, event: e.PoolConfigured, sequence: int, index: int
) -> str:
    if event.admins is not None:
        pool.admins = list(event.admins)
    if event.remember_ms is not None:
        pool.remember_ms = event.remember_ms
    if event.incomplete_ms is not None:
        pool.incomplete_ms = event.incomplete_ms
    return VALID


def _leader_elected(
    pool: Pool, subject: Subject, event: e.LeaderElected, sequence: int, index: int
) -> str:
    if event.term != pool.term + 1:  # L1: the first valid claim in the log wins
        return "term"
    if event.fold_version < pool.fold_version:
        return "fold_version"
    if event.fold_version > e.FOLD_VERSION:  # F4
        raise FoldVersionError(
            f"the leader of pool {pool.name!r} folds with version {event.fold_version}, "
            f"this program with {e.FOLD_VERSION}",
            remedy="Upgrade dtf on this machine.",
        )
    pool.term = event.term
    pool.coordinator = event.coordinator
    pool.nonce = event.nonce
    pool.elected_at = sequence
    pool.fold_version = event.fold_version
    return VALID


# -- submissions -----------------------------------------------------------------------------------
def _open_run(pool: Pool, subject: Subject, sequence: int) -> Run | str:
    """The run a publisher's event is for, or why it may not touch it (S1, S2).

    The first event opens the run.
    """
    run = pool.runs.get(subject.run)
    if run is None:
        run = pool.runs[subject.run] = Run(subject.run, subject.owner, sequence)
    elif run.publisher != subject.owner:
        return "not_owner"
    elif run.settled:
        return "run_settled"
    return run


def _close_if_complete(run: Run, sequence: int) -> None:
    sealed = run.sealed
    if run.submitted is None or sealed is None or len(run.parts) < sealed.parts or run.invalid:
        return
    if len(run.parts) > sealed.parts or run.size != sealed.tasks:
        run.invalid = (
            f"sealed with {sealed.parts} parts and {sealed.tasks} tasks, "
            f"got {len(run.parts)} and {run.size}"
        )
        return
    run.closed = True
    run.closed_at = sequence


def _run_submitted(
    pool: Pool, subject: Subject, event: e.RunSubmitted, sequence: int, index: int
) -> str:
    if subject.run != run_id(subject.owner, event.key):
        return "bad_run_id"
    digest = _digest(event)
    run = pool.runs.get(subject.run)
    if run is not None and run.submitted is not None:
        return "duplicate" if run.digest == digest else "conflict"
    if run is None or run.publisher != subject.owner:
        # Only the publisher whose key derives this id can submit it: what a stranger put here
        # first is dropped.
        run = pool.runs[subject.run] = Run(subject.run, subject.owner, sequence)
    elif run.settled:
        return "run_settled"
    run.submitted = event
    run.digest = digest
    _close_if_complete(run, sequence)
    return VALID


def _tasks_submitted(
    pool: Pool, subject: Subject, event: e.TasksSubmitted, sequence: int, index: int
) -> str:
    run = _open_run(pool, subject, sequence)
    if isinstance(run, str):
        return run
    digest = _digest(event)
    known = run.parts.get(event.part)
    if known is not None:
        return "duplicate" if known == digest else "conflict"
    if run.closed:
        return "run_closed"
    problem = spec_problem(event.spec) or array_problem(event.items, event.axes, event.count)
    if problem is None and event.group in run.groups:
        problem = "there is another group of this name in the run"
    size = 0 if problem else array_length(event.items, event.axes, event.count)
    if run.size + size > RUN_TASKS_MAX:
        problem = f"a run holds at most {RUN_TASKS_MAX} tasks"
    group = Group(event) if problem is None else None
    if group is None:
        run.invalid = run.invalid or f"part {event.part}, group {event.group}: {problem}"[:256]
        return "bad_part"
    run.parts[event.part] = digest
    run.groups[event.group] = group
    run.size += group.size
    _close_if_complete(run, sequence)
    return VALID


def _run_sealed(pool: Pool, subject: Subject, event: e.RunSealed, sequence: int, index: int) -> str:
    run = _open_run(pool, subject, sequence)
    if isinstance(run, str):
        return run
    if run.sealed is not None:
        return "duplicate" if run.sealed == event else "conflict"
    run.sealed = event
    _close_if_complete(run, sequence)
    return VALID


def _cancel_requested(
    pool: Pool, subject: Subject, event: e.CancelRequested, sequence: int, index: int
) -> str:
    run = pool.runs.get(subject.run)
    if run is None:
        return "unknown_run"
    if subject.owner != run.publisher and subject.owner not in pool.admins:
        return "not_owner"
    if run.settled:
        return "run_settled"  # A8
    if event.task is None:
        if run.cancel_at:
            return "duplicate"
        run.cancel_at = sequence
        return VALID
    found = run.find(event.task)
    if found is None:
        return "unknown_task"
    if found[0].verdicts[found[1]]:
        return "already_settled"
    if event.task in run.cancel_tasks:
        return "duplicate"
    run.cancel_tasks[event.task] = sequence
    return VALID


# -- workers ---------------------------------------------------------------------------------------
def _orphan(pool: Pool, worker: str, incarnation: str, reason: str) -> None:
    """Open attempts of an ended incarnation reserve nothing more and await a ruling each (W3)."""
    for attempt in pool.open.values():
        if attempt.worker == worker and attempt.incarnation == incarnation and not attempt.orphaned:
            attempt.orphaned = reason


def _worker_joined(
    pool: Pool, subject: Subject, event: e.WorkerJoined, sequence: int, index: int
) -> str:
    old = pool.workers.get(subject.owner)
    worker = Worker(subject.owner, event, sequence)
    if old is not None:
        if old.incarnation == event.incarnation:
            return "duplicate"
        worker.drained = old.drained
        held = {(h.run, h.token) for h in event.held}
        for attempt in pool.open.values():
            if attempt.worker == subject.owner and (attempt.task.run.id, attempt.token) in held:
                attempt.incarnation = event.incarnation
                attempt.orphaned = ""
        _orphan(pool, subject.owner, old.incarnation, "superseded")
    pool.workers[subject.owner] = worker
    return VALID


def _current(pool: Pool, name: str, incarnation: str) -> Worker | str:
    worker = pool.workers.get(name)
    if worker is None:
        return "unknown_worker"
    if worker.incarnation != incarnation:
        return "incarnation"
    return "worker_ended" if worker.ended else worker


def _worker_draining(
    pool: Pool, subject: Subject, event: e.WorkerDraining, sequence: int, index: int
) -> str:
    worker = _current(pool, subject.owner, event.incarnation)
    if isinstance(worker, str):
        return worker
    worker.draining = True
    return VALID


def _worker_left(
    pool: Pool, subject: Subject, event: e.WorkerLeft, sequence: int, index: int
) -> str:
    worker = _current(pool, subject.owner, event.incarnation)
    if isinstance(worker, str):
        return worker
    worker.ended = "left"
    _orphan(pool, subject.owner, event.incarnation, "left")
    return VALID


def _worker_lost(
    pool: Pool, subject: Subject, event: e.WorkerLost, sequence: int, index: int
) -> str:
    if event.term != pool.term:
        return "term"
    worker = _current(pool, subject.owner, event.incarnation)
    if isinstance(worker, str):
        return worker
    worker.ended = "lost"
    _orphan(pool, subject.owner, event.incarnation, "lost")
    return VALID


def _drain_requested(
    pool: Pool, subject: Subject, event: e.DrainRequested, sequence: int, index: int
) -> str:
    worker = pool.workers.get(event.worker)
    if worker is None:
        return "unknown_worker"
    worker.drained = (event.reason or "drained") if event.drain else ""
    return VALID


# -- attempts, as the worker tells them ------------------------------------------------------------
def _numbered(pool: Pool, subject: Subject, token: str, n: int) -> Attempt | str:
    """The open attempt an event belongs to, or why it does not count (A1, A2, A3)."""
    attempt = pool.open.get(token)
    if attempt is None:
        return "attempt_closed"
    if attempt.worker != subject.owner or attempt.task.run.id != subject.run:
        return "not_yours"
    if n != attempt.next_n:
        return "duplicate" if n < attempt.next_n else "gap"
    return attempt


def _close(pool: Pool, attempt: Attempt) -> None:
    """The attempt reserves nothing more."""
    task = attempt.task
    del pool.open[attempt.token]
    task.open.remove(attempt)
    if task.settled and not task.open:
        task.run.tasks.pop(task.id, None)


def _attempt_started(
    pool: Pool, subject: Subject, event: e.AttemptStarted, sequence: int, index: int
) -> str:
    attempt = _numbered(pool, subject, event.token, event.n)
    if isinstance(attempt, str):
        return attempt
    attempt.next_n += 1
    attempt.started = True
    return VALID


def _attempt_reported(
    pool: Pool,
    subject: Subject,
    event: e.CasesReported | e.ArtifactStored,
    sequence: int,
    index: int,
) -> str:
    attempt = _numbered(pool, subject, event.token, event.n)
    if isinstance(attempt, str):
        return attempt
    attempt.next_n += 1
    return VALID


def _attempt_returned(
    pool: Pool, subject: Subject, event: e.AttemptReturned, sequence: int, index: int
) -> str:
    attempt = _numbered(pool, subject, event.token, event.n)
    if isinstance(attempt, str):
        return attempt
    if attempt.started:
        return "already_started"  # A5
    if not attempt.revoked:
        attempt.task.losses += (
            1  # refused by the agent: bounded like any other fault of the infrastructure
        )
    _close(pool, attempt)
    return VALID


def _attempt_finished(
    pool: Pool, subject: Subject, event: e.AttemptFinished, sequence: int, index: int
) -> str:
    attempt = pool.open.get(event.token)
    if attempt is None:
        return "attempt_closed"
    task = attempt.task
    if attempt.worker != subject.owner or task.run.id != subject.run:
        return "not_yours"
    if event.n != attempt.next_n:
        return "duplicate" if event.n < attempt.next_n else "gap"
    group = task.group
    group.finishes += 1
    group.mean_us += (event.duration_us - group.mean_us) // (
        8 if group.finishes > 8 else group.finishes
    )
    if not task.settled and task.finish is None:
        task.finish = Finish(event.token, sequence, index, event.verdict, event.cause)
    _close(pool, attempt)
    return VALID


# -- rulings of the leader -------------------------------------------------------------------------
def _task_assigned(
    pool: Pool, subject: Subject, event: e.TaskAssigned, sequence: int, index: int
) -> str:
    if event.term != pool.term:
        return "term"  # L3
    worker = pool.workers.get(subject.owner)
    if worker is None or worker.incarnation != event.incarnation:
        return "incarnation"  # A4
    token = event.token
    if token in pool.open:
        return "duplicate"
    run = pool.runs.get(event.run)
    parts = split_token(token)
    if run is None or parts is None:
        return "unknown_task"
    name, number = parts
    task = run.tasks.get(name)
    if task is None:
        found = run.find(name)
        if found is None:
            return "unknown_task"
        if number != 1:
            return "attempt_number"
        task = run.tasks[name] = Task(run, found[0], found[1], name)
        task.settled = found[0].verdicts[found[1]] != 0
    elif number != task.tries + 1:
        return "attempt_number"  # A1
    attempt = Attempt(
        task, token, number, subject.owner, event.incarnation, event.devices, sequence
    )
    if worker.ended:
        attempt.orphaned = worker.ended
    task.tries = number
    task.delay_ms = 0
    task.open.append(attempt)
    pool.open[token] = attempt
    return VALID


def _attempt_revoked(
    pool: Pool, subject: Subject, event: e.AttemptRevoked, sequence: int, index: int
) -> str:
    if event.term != pool.term:
        return "term"
    attempt = pool.open.get(event.token)
    if attempt is None or attempt.worker != subject.owner:
        return "attempt_closed"
    if attempt.revoked == "cancel":
        return "duplicate"
    attempt.revoked = event.mode
    return VALID


def _ruled_run(pool: Pool, subject: Subject, term: int) -> Run | str:
    if term != pool.term:
        return "term"
    run = pool.runs.get(subject.run)
    if run is None:
        return "unknown_run"
    return "run_settled" if run.settled else run  # F13


def _task_requeued(
    pool: Pool, subject: Subject, event: e.TaskRequeued, sequence: int, index: int
) -> str:
    run = _ruled_run(pool, subject, event.term)
    if isinstance(run, str):
        return run
    parts = split_token(event.token)
    task = run.tasks.get(parts[0]) if parts else None
    if task is None or task.settled:
        return "unknown_task"
    attempt = pool.open.get(event.token)
    finished = task.finish is not None and task.finish.token == event.token
    if finished and event.cause in (Cause.WORKER_LOST, Cause.NEVER_RECEIVED):
        return "attempt_closed"  # the finish landed first and wins
    if not finished and (attempt is None or attempt.task is not task):
        return "attempt_closed"
    if event.cause in INFRASTRUCTURE:
        task.losses += 1
    else:
        task.failures += 1
    task.delay_ms = event.delay_ms
    if finished:
        task.finish = None
    elif attempt is not None and event.keep_open:
        attempt.kept = True
    elif attempt is not None:
        _close(pool, attempt)
    return VALID


def _settle(run: Run, group: Group, verdict: Verdict, tasks: int) -> None:
    group.settled += tasks
    run.settled_tasks += tasks
    run.counts[verdict] = run.counts.get(verdict, 0) + tasks


def _task_settled(
    pool: Pool, subject: Subject, event: e.TaskSettled, sequence: int, index: int
) -> str:
    run = _ruled_run(pool, subject, event.term)
    if isinstance(run, str):
        return run
    task = run.tasks.get(event.task)
    if task is not None:
        group, number = task.group, task.index
    else:
        found = run.find(event.task)
        if found is None:
            return "unknown_task"
        group, number = found
    if group.verdicts[number]:
        return "already_settled"
    group.verdicts[number] = VERDICT_CODE[event.verdict]
    _settle(run, group, event.verdict, 1)
    if run.cancel_tasks:
        run.cancel_tasks.pop(event.task, None)
    if task is not None:
        task.settled = True
        task.finish = None
        if task.open:
            for attempt in [a for a in task.open if a.orphaned]:
                _close(pool, attempt)
        if not task.open:
            run.tasks.pop(event.task, None)
    return VALID


def _range_settled(
    pool: Pool, subject: Subject, event: e.RangeSettled, sequence: int, index: int
) -> str:
    run = _ruled_run(pool, subject, event.term)
    if isinstance(run, str):
        return run
    group = run.groups.get(event.group)
    if group is None or event.stop > group.size or event.start >= event.stop:
        return "unknown_task"
    busy = [
        t
        for t in run.tasks.values()
        if t.group is group and (t.open or t.finish is not None) and not t.settled
    ]
    code = VERDICT_CODE[event.verdict]
    wanted = group.verdicts[event.start : event.stop]
    settled = wanted.count(0)
    wanted = wanted.replace(b"\0", bytes([code]))
    for task in busy:
        if event.start <= task.index < event.stop:
            wanted[task.index - event.start] = 0
            settled -= 1
    if not settled:
        return "already_settled"
    group.verdicts[event.start : event.stop] = wanted
    _settle(run, group, event.verdict, settled)
    for name in [
        n
        for n, t in run.tasks.items()
        if t.group is group and group.verdicts[t.index] and not t.open
    ]:
        del run.tasks[name]
    return VALID


def _run_settled(
    pool: Pool, subject: Subject, event: e.RunSettled, sequence: int, index: int
) -> str:
    run = _ruled_run(pool, subject, event.term)
    if isinstance(run, str):
        return run
    early = event.verdict == "incomplete" or (event.verdict == "cancelled" and not run.closed)
    if not early and (not run.closed or run.settled_tasks < run.size):
        return "unsettled_tasks"  # F13
    if event.counts != run.counts:
        return "counts"
    run.settled = event.verdict
    run.drop_content()
    return VALID


def _submission_rejected(
    pool: Pool, subject: Subject, event: e.SubmissionRejected, sequence: int, index: int
) -> str:
    if event.term != pool.term:
        return "term"
    run = pool.runs.get(subject.run)
    if event.fatal and run is not None:
        if run.settled or run.closed:
            return "run_closed"
        run.settled = "rejected"
        run.drop_content()
    return VALID


def _run_forgotten(
    pool: Pool, subject: Subject, event: e.RunForgotten, sequence: int, index: int
) -> str:
    if event.term != pool.term:
        return "term"
    run = pool.runs.get(subject.run)
    if run is None or not run.settled:
        return "unknown_run"
    del pool.runs[subject.run]
    return VALID


Step = Callable[[Pool, Subject, Any, int, int], str]
STEPS: dict[type[e.Event], Step] = {
    e.PoolCreated: _pool_created,
    e.PoolConfigured: _pool_configured,
    e.DrainRequested: _drain_requested,
    e.RunSubmitted: _run_submitted,
    e.TasksSubmitted: _tasks_submitted,
    e.RunSealed: _run_sealed,
    e.CancelRequested: _cancel_requested,
    e.WorkerJoined: _worker_joined,
    e.WorkerDraining: _worker_draining,
    e.WorkerLeft: _worker_left,
    e.AttemptStarted: _attempt_started,
    e.CasesReported: _attempt_reported,
    e.ArtifactStored: _attempt_reported,
    e.AttemptReturned: _attempt_returned,
    e.AttemptFinished: _attempt_finished,
    e.LeaderElected: _leader_elected,
    e.SubmissionRejected: _submission_rejected,
    e.TaskAssigned: _task_assigned,
    e.AttemptRevoked: _attempt_revoked,
    e.WorkerLost: _worker_lost,
    e.TaskRequeued: _task_requeued,
    e.TaskSettled: _task_settled,
    e.RangeSettled: _range_settled,
    e.RunSettled: _run_settled,
    e.RunForgotten: _run_forgotten,
}


def evolve(pool: Pool, subject: Subject, event: e.Event, sequence: int, index: int) -> str:
    """Fold one event at position (sequence, index); "" when it counts, else why it is void.

    Never raises but F4.
    """
    return STEPS[type(event)](pool, subject, event, sequence, index)
