"""What is assigned and what workers tell, as rows.

The hot path: an attempt costs two calls here, and nothing is made that is not written.
"""

from __future__ import annotations

from msgspec import Raw

from ..core.events import (
    ArtifactStored,
    AttemptFinished,
    AttemptReturned,
    AttemptRevoked,
    AttemptStarted,
    CasesReported,
    TaskAssigned,
    WorkerLost,
)
from ..core.fold import Judged
from ..core.model import ABSENT, Output
from ..core.state import VERDICT_CODE
from ..core.subjects import Subject
from .ledger import Ledger
from .members import worker_ended
from .records import (
    CAUSE_CODE,
    FINISHED,
    RETURNED,
    AttemptRecord,
    Row,
    RunRecord,
    TaskRecord,
    small,
)


def on_assign(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of the leader to one worker."""
    worker = ledger.workers.get(subject.owner)
    run: RunRecord | None = None
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if void:
            continue
        if type(event) is TaskAssigned:
            if run is None or run.run.id != event.run:
                run = ledger.runs[event.run]
            assert worker is not None
            _assigned(ledger, run, worker.key, event, base | index, us)
        elif type(event) is AttemptRevoked:
            ledger.attempts[event.token].touch(base | index, us)
        elif type(event) is WorkerLost:
            worker_ended(ledger, subject.owner, "lost", event.reason, base | index, us)


def _assigned(
    ledger: Ledger, run: RunRecord, worker: int, event: TaskAssigned, pos: int, us: int
) -> None:
    token, params = event.token, event.params
    attempt = ledger.pool.open[token]
    task = attempt.task
    group = run.by_group[task.group]
    record = run.tasks.get(task.id)
    if record is not None:
        record.touch(pos, us)
    elif not task.settled:
        record = run.tasks[task.id] = TaskRecord(task, group, pos, us)
    head: Row = (
        group.pos, task.index, attempt.number, token, worker, pos, us,
        None if params is ABSENT else str(params, "utf-8", "replace"), event.devices or None,
    )  # fmt: skip
    ledger.attempts[token] = AttemptRecord(attempt, record, head, pos, us)
    run.attempts += 1
    if run.first_us is None:
        run.first_us = us
    run.pos, run.us = pos, us
    if not run.dirty:
        ledger.touch_run(run, pos, us)


def on_attempt(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of a worker about its attempts of one run."""
    attempts = ledger.attempts
    add = ledger.facts["attempts"].append
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if void:
            continue
        pos = base | index
        if type(event) is AttemptFinished:
            record = attempts.pop(event.token)
            add(_finished_row(record, event, pos, us))
            if record.stored:
                ledger.drop_attempt(record)
            task = record.task
            if task is not None:
                task.pos, task.us, task.dirty = pos, us, True
        elif type(event) is CasesReported:
            _cases(ledger, attempts[event.token], event, pos, us)
        elif type(event) is ArtifactStored:
            place = _place(attempts[event.token])
            row = (*place, event.path, event.digest, event.bytes, pos, us)
            ledger.facts["artifacts"].append(row)
        elif type(event) is AttemptStarted:
            record = attempts[event.token]
            record.started_us = us
            record.touch(pos, us)
            if record.task is not None:
                record.task.touch(pos, us)
        elif type(event) is AttemptReturned:
            record = attempts.pop(event.token)
            add(record.closed(RETURNED, None, event.reason, pos, us))
            ledger.drop_attempt(record)
            if record.task is not None:
                record.task.touch(pos, us)


def _finished_row(record: AttemptRecord, event: AttemptFinished, pos: int, us: int) -> Row:
    attempt, value, usage, placed = record.attempt, event.value, event.usage, event.placement
    cpu = rss = None
    if usage is not None:
        cpu = None if usage.cpu_us is None else float(usage.cpu_us)
        rss = None if usage.peak_rss_bytes is None else float(usage.peak_rss_bytes)
    return (
        *record.head, record.started_us, pos, us, FINISHED, VERDICT_CODE[event.verdict],
        CAUSE_CODE[event.cause], attempt.orphaned or None, attempt.revoked or None,
        float(event.duration_us), small(event.exit_code), event.message or None,
        None if value is ABSENT else str(value, "utf-8", "replace"), cpu, rss,
        *(NOWHERE if placed is None else (placed.requested, placed.actual, placed.detail or None)),
        *(SILENT if event.output is None else _output(event.output)),
    )  # fmt: skip


NOWHERE: Row = (None, None, None)
SILENT: Row = (None, None, None, None)


def _output(output: Output) -> Row:
    return (output.digest, output.bytes, output.truncated, output.tail or None)


def _place(record: AttemptRecord) -> Row:
    """The four columns that name the attempt: assigned_pos, group_pos, task_index, attempt."""
    head = record.head
    return (head[5], head[0], head[1], head[2])


TELLING = (b'"reports"', b'"collect"', b'"crash"', b'"earlier"', b'"warnings"')
"""Keys of a detail that are worth a row's place; phases and lines of passed cases are not."""


def _detail(detail: Raw) -> str | None:
    if detail is ABSENT or not any(key in bytes(detail) for key in TELLING):
        return None
    return str(detail, "utf-8", "replace")


def _cases(ledger: Ledger, record: AttemptRecord, event: CasesReported, pos: int, us: int) -> None:
    place = _place(record)
    ledger.facts["cases"] += [
        (*place, case.id, case.verdict._value_, case.duration_us, case.message or None, case.tries,
         _detail(case.detail), ordinal, pos, us)
        for ordinal, case in enumerate(event.cases)
    ]  # fmt: skip
    ledger.facts["measurements"] += [
        (*place, m.name, m.value, m.unit or None, m.case, m.samples, ordinal, pos, us)
        for ordinal, m in enumerate(event.measurements)
    ]
