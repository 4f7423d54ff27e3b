"""The ledger's records as bytes, and back, beside a snapshot of the fold.

Rule: a restored ledger makes the same rows of every later message as the one that was saved.

Only what the fold does not know is kept; the rest is read from the fold's snapshot of the same
position. Everything restored counts as new until `settle_in` says the file holds it already.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ..core.snapshot import SnapshotCorrupt, decode_pool, encode_pool
from ..core.state import Pool
from .ledger import Ledger
from .records import AttemptRecord, RunRecord, TaskRecord, WorkerRecord

MEMO_VERSION = 2


class RunMemo(Struct, array_like=True):
    run: str
    opened_us: int
    submitted_pos: int | None
    submitted_us: int | None
    closed_us: int | None
    cancel_us: int | None
    first_us: int | None
    attempts: int
    requeues: int
    pos: int
    us: int
    groups: list[tuple[str, int]]
    tasks: list[tuple[str, int, int]]


class AttemptMemo(Struct, array_like=True):
    group_pos: int
    index: int
    number: int
    token: str
    worker_pos: int
    assigned_pos: int
    assigned_us: int
    params: str | None
    started_us: int | None
    pos: int
    us: int


class WorkerMemo(Struct, array_like=True):
    name: str
    key: int
    joined_us: int
    draining: bool
    drained: str
    ended: str
    ended_us: int | None
    reason: str
    pos: int
    us: int


class Memo(Struct, kw_only=True):
    version: int = MEMO_VERSION
    runs: list[RunMemo]
    attempts: list[AttemptMemo]
    workers: list[WorkerMemo]


_decoder = msgspec.json.Decoder(Memo)


def save(ledger: Ledger) -> tuple[bytes, bytes]:
    """(snapshot of the fold, the records beside it). Cost: proportional to what is open."""
    memo = Memo(
        runs=[_run_memo(run) for run in ledger.runs.values()],
        attempts=[
            msgspec.convert((*record.head, record.started_us, record.pos, record.us), AttemptMemo)
            for record in ledger.attempts.values()
        ],
        workers=[
            WorkerMemo(
                w.name, w.key, w.joined_us, w.draining, w.drained, w.ended, w.ended_us, w.reason,
                w.pos, w.us,
            )
            for w in ledger.workers.values()
        ],
    )  # fmt: skip
    return encode_pool(ledger.pool), msgspec.json.encode(memo)


def _run_memo(r: RunRecord) -> RunMemo:
    return RunMemo(
        r.run.id, r.opened_us, r.submitted_pos, r.submitted_us, r.closed_us, r.cancel_us,
        r.first_us, r.attempts, r.requeues, r.pos, r.us,
        [(name, group.pos) for name, group in r.groups.items()],
        [(name, task.pos, task.us) for name, task in r.tasks.items()],
    )  # fmt: skip


def load(name: str, snapshot: bytes, records: bytes) -> Ledger:
    """The ledger that was saved. Raises `SnapshotCorrupt`."""
    try:
        memo = _decoder.decode(records)
        if memo.version != MEMO_VERSION:
            raise SnapshotCorrupt(f"memo version {memo.version} is not {MEMO_VERSION}")
        return _ledger(name, decode_pool(snapshot), memo)
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError) as error:
        raise SnapshotCorrupt(f"the projector's records cannot be read: {error}") from error


def _ledger(name: str, pool: Pool, memo: Memo) -> Ledger:
    ledger = Ledger(name, pool)
    for each in memo.workers:
        ledger.workers[each.name] = _worker(ledger, each)
    for run in memo.runs:
        ledger.runs[run.run] = _run(ledger, run)
    for attempt in memo.attempts:
        ledger.attempts[attempt.token] = _attempt(ledger, attempt)
    return ledger


def _worker(ledger: Ledger, memo: WorkerMemo) -> WorkerRecord:
    join = ledger.pool.workers[memo.name].join
    record = WorkerRecord(memo.name, join, memo.key, memo.joined_us)
    record.draining, record.drained, record.ended = memo.draining, memo.drained, memo.ended
    record.ended_us, record.reason = memo.ended_us, memo.reason
    ledger.touch_worker(record, memo.pos, memo.us)
    return record


def _run(ledger: Ledger, memo: RunMemo) -> RunRecord:
    run = ledger.pool.runs[memo.run]
    record = RunRecord(run, memo.opened_us)
    record.submitted_pos, record.submitted_us = memo.submitted_pos, memo.submitted_us
    record.closed_us, record.cancel_us, record.first_us = (
        memo.closed_us,
        memo.cancel_us,
        memo.first_us,
    )
    record.attempts, record.requeues = memo.attempts, memo.requeues
    record.doomed = bool(run.invalid)
    for name, pos in memo.groups:
        record.add_group(run.groups[name], pos)
    for name, pos, us in memo.tasks:
        task = run.tasks[name]
        record.tasks[name] = TaskRecord(task, record.by_group[task.group], pos, us)
    ledger.touch_run(record, memo.pos, memo.us)
    return record


def _attempt(ledger: Ledger, memo: AttemptMemo) -> AttemptRecord:
    attempt = ledger.pool.open[memo.token]
    run = ledger.runs.get(attempt.task.run.id)
    task = run.tasks.get(attempt.task.id) if run is not None else None
    if task is not None and task.task is not attempt.task:
        task = None  # of a former run of the same id
    head = msgspec.structs.astuple(memo)[:8]
    record = AttemptRecord(attempt, task, head, memo.pos, memo.us)
    record.started_us = memo.started_us
    return record


def settle_in(ledger: Ledger) -> None:
    """The file already holds every row up to here: nothing waits to be written."""
    ledger.take()
