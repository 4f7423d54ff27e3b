"""What publishers write, as rows: groups at once, runs when they are over."""

from __future__ import annotations

from ..core.events import CancelRequested, RunSubmitted, TasksSubmitted
from ..core.fold import Judged
from ..core.subjects import Subject
from .ledger import Ledger
from .records import RunRecord


def on_run(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of a publisher about one run."""
    last = -1
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if void:
            continue
        last = index
        if type(event) is TasksSubmitted:
            _tasks_submitted(ledger, subject, event, base | index, us)
        elif type(event) is RunSubmitted:
            record = _open(ledger, subject, base | index, us)
            record.submitted_pos, record.submitted_us = base | index, us
        elif type(event) is CancelRequested:
            _cancel_requested(ledger, subject, event, base | index, us)
        else:
            _open(ledger, subject, base | index, us)
    known = ledger.runs.get(subject.run)
    if known is None:
        return
    # What is void counts for nothing and still may doom the owner's open run (S2).
    doomed = bool(known.run.invalid) and not known.doomed
    if last >= 0 or doomed:
        known.doomed = bool(known.run.invalid)
        if known.run.closed and known.closed_us is None:
            known.closed_us = us
        ledger.touch_run(known, base | max(last, 0), us)


def _open(ledger: Ledger, subject: Subject, pos: int, us: int) -> RunRecord:
    """The record of the run the fold now has under this id; a stranger's is replaced."""
    run = ledger.pool.runs[subject.run]
    record = ledger.runs.get(subject.run)
    if record is not None and record.run is not run:
        ledger.end_run(record, "replaced", None, "the owner of this run id submitted it", pos, us)
        record = None
    if record is None:
        record = ledger.runs[subject.run] = RunRecord(run, us)
    return record


def _tasks_submitted(
    ledger: Ledger, subject: Subject, event: TasksSubmitted, pos: int, us: int
) -> None:
    record = _open(ledger, subject, pos, us)
    record.add_group(record.run.groups[event.group], pos)
    ledger.facts["groups"].append(record.group_row(event, pos, us))


def _cancel_requested(
    ledger: Ledger, subject: Subject, event: CancelRequested, pos: int, us: int
) -> None:
    ledger.facts["cancels"].append(
        (subject.run, event.task, subject.owner, event.reason or None, pos, us)
    )
    record = ledger.runs.get(subject.run)
    if record is not None and event.task is None:
        record.cancel_us = us
