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
    opened, attempts = ledger.pool.open, ledger.attempts
    run: RunRecord | None = None
    for pos, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False), base):
        if void:
            continue
        if type(event) is TaskAssigned:
            if run is None or run.run.id != event.run:
                run = ledger.runs[event.run]
            assert worker is not None
            token, params = event.token, event.params
            attempt = opened[token]
            task = attempt.task
            group = run.by_group[task.group]
            record = run.tasks.get(task.id)
            if record is not None:
                record.touch(pos, us)
            elif not task.settled:
                record = run.tasks[task.id] = TaskRecord(task, group, pos, us)
            given = None if params is ABSENT else str(params, "utf-8", "replace")
            head = (group.pos, task.index, attempt.number, token, worker.key, pos, us, given)
            attempts[token] = AttemptRecord(attempt, record, head, pos, us)
            run.attempts += 1
            if run.first_us is None:
                run.first_us = us
            run.pos, run.us = pos, us
            if not run.dirty:
                ledger.touch_run(run, pos, us)
        elif type(event) is AttemptRevoked:
            attempts[event.token].touch(pos, us)
        elif type(event) is WorkerLost:
            worker_ended(ledger, subject.owner, "lost", event.reason, pos, us)


def on_attempt(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of a worker about its attempts of one run."""
    attempts = ledger.attempts
    add = ledger.facts["attempts"].append
    for pos, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False), base):
        if void:
            continue
        if type(event) is AttemptFinished:
            record = attempts.pop(event.token)
            value, attempt = event.value, record.attempt
            ending = (
                record.started_us, pos, us, FINISHED, VERDICT_CODE[event.verdict],
                CAUSE_CODE[event.cause], float(event.duration_us),
                None if value is ABSENT else str(value, "utf-8", "replace"),
            )  # fmt: skip
            add(record.head + ending)
            measured = _measured(event)
            if measured is not None or attempt.devices or attempt.orphaned or attempt.revoked:
                ledger.add_extra(record, None, measured)
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
            ledger.close_attempt(record, RETURNED, None, event.reason, pos, us)
            if record.task is not None:
                record.task.touch(pos, us)


def _measured(event: AttemptFinished) -> Row | None:
    """exit_code .. output_tail of `fact.extras`; None when the attempt reported none of them."""
    usage, placed, output = event.usage, event.placement, event.output
    code, message = event.exit_code, event.message
    if usage is None and placed is None and output is None and code is None and not message:
        return None
    cpu = rss = None
    if usage is not None:
        cpu = None if usage.cpu_us is None else float(usage.cpu_us)
        rss = None if usage.peak_rss_bytes is None else float(usage.peak_rss_bytes)
    return (
        small(code), message or None, cpu, rss,
        *(NOWHERE if placed is None else (placed.requested, placed.actual, placed.detail or None)),
        *(SILENT if output is None else _output(output)),
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
