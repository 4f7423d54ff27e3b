"""What is assigned and what workers tell, as rows.

The hot path: an attempt costs two calls here, and nothing is made that is not written.
"""

from __future__ import annotations

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
from ..core.model import ABSENT
from ..core.subjects import Subject
from .ledger import Ledger
from .members import worker_ended
from .records import NOTHING_MEASURED, AttemptRecord, Row, TaskRecord, small


def on_assign(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of the leader to one worker."""
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if void:
            continue
        if type(event) is TaskAssigned:
            _assigned(ledger, subject, event, base | index, us)
        elif type(event) is AttemptRevoked:
            ledger.touch_attempt(ledger.attempts[event.token], base | index, us)
        elif type(event) is WorkerLost:
            worker_ended(ledger, subject.owner, "lost", event.reason, base | index, us)


def _assigned(ledger: Ledger, subject: Subject, event: TaskAssigned, pos: int, us: int) -> None:
    token = event.token
    attempt = ledger.pool.open[token]
    run = ledger.runs[event.run]
    task = attempt.task
    record = run.tasks.get(task.id)
    group = run.groups[task.group.name]
    if record is not None:
        ledger.touch_task(record, pos, us)
    elif not task.settled:
        record = run.tasks[task.id] = TaskRecord(task, group, pos, us)
        ledger.dirty_tasks.append(record)
    params = event.params
    head: Row = (
        group.pos, task.index, attempt.number, token, ledger.workers[subject.owner].key, pos, us,
        None if params is ABSENT else str(params, "utf-8", "replace"), event.devices or None,
    )  # fmt: skip
    opened = ledger.attempts[token] = AttemptRecord(attempt, record, head, pos, us)
    ledger.dirty_attempts.append(opened)
    run.attempts += 1
    if run.first_us is None:
        run.first_us = us
    ledger.touch_run(run, pos, us)


def on_attempt(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of a worker about its attempts of one run."""
    attempts = ledger.attempts
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if void:
            continue
        pos = base | index
        if type(event) is AttemptFinished:
            record = attempts.pop(event.token)
            ledger.facts["attempts"].append(_finished_row(record, event, pos, us))
            _ended(ledger, record, pos, us)
        elif type(event) is CasesReported:
            _cases(ledger, attempts[event.token], event, pos, us)
        elif type(event) is ArtifactStored:
            place = _place(attempts[event.token])
            row = (*place, event.path, event.digest, event.bytes, pos, us)
            ledger.facts["artifacts"].append(row)
        elif type(event) is AttemptStarted:
            record = attempts[event.token]
            record.started_us = us
            ledger.touch_attempt(record, pos, us)
            if record.task is not None and not record.task.gone:
                ledger.touch_task(record.task, pos, us)
        elif type(event) is AttemptReturned:
            record = attempts.pop(event.token)
            row = record.closed("returned", None, event.reason, pos, us)
            ledger.facts["attempts"].append(row)
            _ended(ledger, record, pos, us)


def _ended(ledger: Ledger, record: AttemptRecord, pos: int, us: int) -> None:
    ledger.drop_attempt(record)
    task = record.task
    if task is not None and not task.gone:
        ledger.touch_task(task, pos, us)


def _finished_row(record: AttemptRecord, event: AttemptFinished, pos: int, us: int) -> Row:
    value = event.value
    attempt = record.attempt
    start = (
        *record.head, record.started_us, pos, us, "finished", event.verdict._value_,
        event.cause._value_, attempt.orphaned or None, attempt.revoked or None,
        float(event.duration_us), small(event.exit_code), event.message or None,
        None if value is ABSENT else str(value, "utf-8", "replace"),
    )  # fmt: skip
    if event.usage is None and event.placement is None and event.output is None:
        return start + NOTHING_USED
    return start + _used(event)


NOTHING_USED: Row = NOTHING_MEASURED[4:]


def _used(event: AttemptFinished) -> Row:
    """cpu_us .. output_tail."""
    usage, placed, output = event.usage, event.placement, event.output
    cpu = rss = None
    if usage is not None:
        cpu = None if usage.cpu_us is None else float(usage.cpu_us)
        rss = None if usage.peak_rss_bytes is None else float(usage.peak_rss_bytes)
    where: Row = (None, None, None)
    if placed is not None:
        where = (placed.requested, placed.actual, placed.detail or None)
    if output is None:
        return (cpu, rss, *where, None, None, None, None)
    return (cpu, rss, *where, output.digest, output.bytes, output.truncated, output.tail or None)


def _place(record: AttemptRecord) -> Row:
    """The four columns that name the attempt: assigned_pos, group_pos, task_index, attempt."""
    head = record.head
    return (head[5], head[0], head[1], head[2])


def _cases(ledger: Ledger, record: AttemptRecord, event: CasesReported, pos: int, us: int) -> None:
    place = _place(record)
    ledger.facts["cases"] += [
        (*place, case.id, case.verdict._value_, case.duration_us, case.message or None, ordinal,
         pos, us)
        for ordinal, case in enumerate(event.cases)
    ]  # fmt: skip
    ledger.facts["measurements"] += [
        (*place, m.name, m.value, m.unit or None, m.case, m.samples, ordinal, pos, us)
        for ordinal, m in enumerate(event.measurements)
    ]
