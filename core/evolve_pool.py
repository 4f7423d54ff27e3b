"""Steps of the fold for the pool itself: its settings, its leaders, its workers.

Rule: a worker's name belongs to its newest incarnation, and attempts end with the incarnation that
held them unless a newer one says it still has them (protocol W1, W3).
"""

from __future__ import annotations

from . import events as e
from .errors import FoldVersionError
from .state import INCARNATIONS_REMEMBERED, Attempt, Pool, Worker
from .subjects import Subject

VALID = ""
WORKERS_MAX = 4096
"""Workers remembered before ended ones are dropped to make room for a new name."""


def pool_created(
    pool: Pool, subject: Subject, event: e.PoolCreated, sequence: int, index: int
) -> str:
    """The pool exists from here (F7)."""
    if pool.uuid:
        return "duplicate"
    if event.name != pool.name:
        return "other_pool"
    pool.uuid = event.uuid
    return VALID


def pool_configured(
    pool: Pool, subject: Subject, event: e.PoolConfigured, sequence: int, index: int
) -> str:
    """The settings that were given are in force."""
    if event.admins is not None:
        pool.admins = list(event.admins)
    if event.remember_ms is not None:
        pool.remember_ms = event.remember_ms
    if event.incomplete_ms is not None:
        pool.incomplete_ms = event.incomplete_ms
    return VALID


def leader_elected(
    pool: Pool, subject: Subject, event: e.LeaderElected, sequence: int, index: int
) -> str:
    """The claimant leads: it was the first in the log to claim the next term (L1)."""
    if event.term != pool.term + 1:
        return "term"
    if event.fold_version < max(pool.fold_version, 1):
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


# -- workers ---------------------------------------------------------------------------------------
def close_attempt(pool: Pool, attempt: Attempt) -> None:
    """The attempt reserves nothing more."""
    task = attempt.task
    del pool.open[attempt.token]
    del pool.workers[attempt.worker].open[attempt.token]
    task.open.remove(attempt)
    if task.settled and not task.open:
        task.run.tasks.pop(task.id, None)


def _orphan(pool: Pool, worker: Worker, reason: str) -> None:
    """Open attempts of the ended incarnation reserve nothing more (W3).

    Each awaits a ruling, except where its task or its run has had the last one.
    """
    for attempt in list(worker.open.values()):
        if attempt.orphaned:
            continue
        if attempt.task.settled or attempt.task.run.settled:
            close_attempt(pool, attempt)
        else:
            attempt.orphaned = reason


def _make_room(pool: Pool) -> None:
    """Names of machines that come and go do not add up: ended workers without a trace are dropped
    once there are very many."""
    if len(pool.workers) < WORKERS_MAX:
        return
    gone = [w.name for w in pool.workers.values() if w.ended and not (w.open or w.drained)]
    for name in gone:
        del pool.workers[name]


def worker_joined(
    pool: Pool, subject: Subject, event: e.WorkerJoined, sequence: int, index: int
) -> str:
    """The new incarnation is the worker; it holds on to the attempts it names (W1, W3)."""
    old = pool.workers.get(subject.owner)
    worker = Worker(subject.owner, event, sequence)
    if old is None:
        _make_room(pool)
    else:
        if event.incarnation == old.incarnation or event.incarnation in old.past:
            return "duplicate"
        worker.drained = old.drained
        worker.past = (*old.past, old.incarnation)[-INCARNATIONS_REMEMBERED:]
        worker.open = old.open
        held = {(each.run, each.token) for each in event.held}
        kept = [a for a in old.open.values() if (a.task.run.id, a.token) in held]
        for attempt in kept:
            attempt.orphaned = "held"
        _orphan(pool, old, "superseded")
        for attempt in kept:
            attempt.incarnation, attempt.orphaned = event.incarnation, ""
    pool.workers[subject.owner] = worker
    return VALID


def _current(pool: Pool, name: str, incarnation: str) -> Worker | str:
    worker = pool.workers.get(name)
    if worker is None:
        return "unknown_worker"
    if worker.incarnation != incarnation:
        return "incarnation"
    return "worker_ended" if worker.ended else worker


def worker_draining(
    pool: Pool, subject: Subject, event: e.WorkerDraining, sequence: int, index: int
) -> str:
    """The agent gets nothing new."""
    worker = _current(pool, subject.owner, event.incarnation)
    if isinstance(worker, str):
        return worker
    if worker.draining:
        return "duplicate"
    worker.draining = True
    return VALID


def worker_left(
    pool: Pool, subject: Subject, event: e.WorkerLeft, sequence: int, index: int
) -> str:
    """The incarnation ended by its own word."""
    worker = _current(pool, subject.owner, event.incarnation)
    if isinstance(worker, str):
        return worker
    worker.ended = "left"
    _orphan(pool, worker, "left")
    return VALID


def worker_lost(
    pool: Pool, subject: Subject, event: e.WorkerLost, sequence: int, index: int
) -> str:
    """The incarnation ended by the leader's word."""
    if event.term != pool.term:
        return "term"
    worker = _current(pool, subject.owner, event.incarnation)
    if isinstance(worker, str):
        return worker
    worker.ended = "lost"
    _orphan(pool, worker, "lost")
    return VALID


def drain_requested(
    pool: Pool, subject: Subject, event: e.DrainRequested, sequence: int, index: int
) -> str:
    """The worker is out of rotation, or back in it."""
    worker = pool.workers.get(event.worker)
    if worker is None:
        return "unknown_worker"
    worker.drained = (event.reason or "drained") if event.drain else ""
    return VALID
