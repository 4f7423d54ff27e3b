"""What the leader rules about a run, as rows: tasks settled, attempts closed, runs over."""

from __future__ import annotations

from bisect import bisect_right

from ..core.events import (
    RangeSettled,
    RunForgotten,
    RunSettled,
    SubmissionRejected,
    TaskRequeued,
    TaskSettled,
)
from ..core.fold import Judged
from ..core.ids import split_task_id, split_token
from ..core.model import task_params
from ..core.state import VERDICT_CODE
from ..core.subjects import Subject
from .ledger import Ledger
from .records import (
    CAUSE_CODE,
    CLOSED,
    INDEX_BITS,
    INDEX_END,
    SEQUENCE_MAX,
    Row,
    RunRecord,
    text,
)


def on_ruling(ledger: Ledger, judged: Judged, subject: Subject, base: int, us: int) -> None:
    """A message of the leader about one run."""
    run = ledger.runs.get(subject.run)
    add = ledger.facts["tasks"].append
    last = -1
    for pos, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False), base):
        if void:
            continue
        last = pos
        if type(event) is TaskSettled:
            assert run is not None
            add(_settled_row(ledger, run, event, pos, us))
        elif type(event) is TaskRequeued:
            _requeued(ledger, run, event, pos, us)
        elif type(event) is RangeSettled:
            _range_settled(ledger, run, event, pos, us)
        elif type(event) is RunSettled:
            assert run is not None
            ledger.end_run(run, "settled", event.verdict, "", pos, us)
        elif type(event) is SubmissionRejected:
            _rejected(ledger, subject.run, event, pos, us)
        elif type(event) is RunForgotten:
            ledger.facts["forgotten"].append((subject.run, pos, us))
    if last >= 0 and run is not None and ledger.runs.get(subject.run) is run:
        ledger.touch_run(run, last, us)


def _settled_row(ledger: Ledger, run: RunRecord, event: TaskSettled, pos: int, us: int) -> Row:
    at = event.at
    record = run.tasks.pop(event.task, None)
    if record is not None:
        group, index, tries = record.group, record.task.index, record.task.tries
        if record.stored:
            ledger.drop_task(record)
    else:
        name, index = split_task_id(event.task) or ("", 0)
        group, tries = run.groups[name], 0
    accepted = params = None
    if at is not None and 0 <= at[0] <= SEQUENCE_MAX and 0 <= at[1] < INDEX_END:
        accepted = at[0] << INDEX_BITS | at[1]
    else:
        submitted = group.group.submitted
        params = text(task_params(submitted.items, submitted.axes, index))
    return (
        group.pos, index, VERDICT_CODE[event.verdict], CAUSE_CODE[event.cause], tries, accepted,
        params, pos, us,
    )  # fmt: skip


def _requeued(
    ledger: Ledger, run: RunRecord | None, event: TaskRequeued, pos: int, us: int
) -> None:
    assert run is not None
    name, number = split_token(event.token) or ("", 0)
    group, index = split_task_id(name) or ("", 0)
    run.requeues += 1
    ledger.facts["requeues"].append(
        (run.groups[group].pos, index, number, event.token, event.cause._value_, event.delay_ms,
         event.keep_open, pos, us)
    )  # fmt: skip
    task = run.tasks.get(name)
    record = ledger.attempts.get(event.token)
    if record is not None and (task is None or not event.keep_open):
        # Of a task that is settled already the attempt is closed whatever the ruling says.
        del ledger.attempts[event.token]
        ledger.close_attempt(record, CLOSED, event.cause, None, pos, us)
    elif record is not None:
        record.touch(pos, us)
    if task is not None:
        task.touch(pos, us)


def _range_settled(
    ledger: Ledger, run: RunRecord | None, event: RangeSettled, pos: int, us: int
) -> None:
    assert run is not None
    group = run.groups[event.group]
    spans = ledger.spans.pop(pos)
    for start, stop in spans:
        ledger.facts["ranges"].append(
            (group.pos, start, stop, event.verdict._value_, event.cause._value_,
             event.message or None, pos, us)
        )  # fmt: skip
    over = [
        name
        for name, record in run.tasks.items()
        if record.group is group and _within(spans, record.task.index)
    ]
    for name in over:
        ledger.drop_task(run.tasks.pop(name))


def _within(spans: list[tuple[int, int]], index: int) -> bool:
    """Whether `index` lies in one of the ordered spans."""
    place = bisect_right(spans, index, key=lambda span: span[0]) - 1
    return place >= 0 and index < spans[place][1]


def _rejected(ledger: Ledger, name: str, event: SubmissionRejected, pos: int, us: int) -> None:
    ledger.facts["rejections"].append(
        (name, event.reason, event.fatal, event.sequence, event.index, event.term, pos, us)
    )
    run = ledger.runs.get(name)
    if run is not None and event.fatal:
        ledger.end_run(run, "rejected", None, event.reason, pos, us)


def close_by_ruling(ledger: Ledger, judged: Judged, base: int, us: int) -> None:
    """Attempts the message closed without naming them have their rows.

    A settled task closes its orphaned attempts; they take the position of that ruling.
    """
    settled = {
        event.task: (base | index, event.cause)
        for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False))
        if not void and type(event) is TaskSettled
    }
    is_open = ledger.pool.open
    for token in [token for token in ledger.attempts if token not in is_open]:
        record = ledger.attempts.pop(token)
        pos, cause = settled.get(record.attempt.task.id, (base, None))
        ledger.close_attempt(record, CLOSED, cause, None, pos, us)
