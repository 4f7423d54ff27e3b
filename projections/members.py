"""Workers, leaders and settings, as rows. One row for each incarnation of a worker."""

from __future__ import annotations

from ..core.events import (
    DrainRequested,
    LeaderElected,
    PoolConfigured,
    WorkerDraining,
    WorkerJoined,
    WorkerLeft,
)
from ..core.fold import Judged
from ..core.subjects import Subject
from .ledger import Ledger
from .records import WorkerRecord, small, wide


def on_worker(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of a worker about itself."""
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if void:
            continue
        pos = base | index
        if type(event) is WorkerJoined:
            _joined(ledger, subject.owner, event, pos, us)
        elif type(event) is WorkerDraining:
            record = ledger.workers[subject.owner]
            record.draining = True
            record.reason = event.reason
            ledger.touch_worker(record, pos, us)
        elif type(event) is WorkerLeft:
            worker_ended(ledger, subject.owner, "left", event.reason, pos, us)


def _joined(ledger: Ledger, name: str, event: WorkerJoined, pos: int, us: int) -> None:
    fresh = WorkerRecord(name, event, pos, us)
    old = ledger.workers.get(name)
    if old is not None:
        fresh.drained = old.drained
        if not old.ended:
            old.ended, old.ended_us, old.pos, old.us = "superseded", us, pos, us
        ledger.end_worker(old)
        _touch_attempts(ledger, name, pos, us)
    ledger.workers[name] = fresh
    ledger.touch_worker(fresh, pos, us)
    ledger.facts["devices"] += [
        (pos, ordinal, d.id, d.hardware, d.name or None, small(d.index), d.memory_bytes, d.driver,
         d.level)
        for ordinal, d in enumerate(event.devices)
    ]  # fmt: skip


def worker_ended(ledger: Ledger, name: str, how: str, reason: str, pos: int, us: int) -> None:
    """The current incarnation is over: it left or was lost."""
    record = ledger.workers[name]
    record.ended, record.ended_us = how, us
    record.reason = reason
    ledger.touch_worker(record, pos, us)
    _touch_attempts(ledger, name, pos, us)


def _touch_attempts(ledger: Ledger, worker: str, pos: int, us: int) -> None:
    """The worker's open attempts changed: orphaned, or taken over by a new incarnation."""
    for record in ledger.attempts.values():
        if record.attempt.worker == worker:
            record.touch(pos, us)


def on_pool(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of an admin."""
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if void:
            continue
        pos = base | index
        if type(event) is PoolConfigured:
            ledger.facts["settings"].append(
                (event.admins, wide(event.remember_ms), event.incomplete_ms, pos, us)
            )
        elif type(event) is DrainRequested:
            ledger.facts["drains"].append(
                (event.worker, event.drain, event.reason or None, pos, us)
            )
            record = ledger.workers[event.worker]
            record.drained = (event.reason or "drained") if event.drain else ""
            ledger.touch_worker(record, pos, us)


def on_leader(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of a coordinator that would lead."""
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if not void and type(event) is LeaderElected:
            ledger.facts["leaders"].append(
                (event.term, event.coordinator, event.nonce, event.fold_version, base | index, us)
            )
