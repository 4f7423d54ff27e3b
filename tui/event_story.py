"""The events about one task, as rows. Rule: in log order, each with what it says and who said it.

Pure but for the reading: `about` decides what belongs, `told` says it in a few words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ..core import events as e
from ..core.codec import Undecodable, decode_batch
from ..core.ids import split_task_id, split_token
from ..core.ports import Message
from ..core.subjects import Subject, Subjects

if TYPE_CHECKING:
    from ..core.client import Client

Row = list[Any]
NOT_FOUND = 404


async def events_of_task(client: Client, run: str, task: str, after: int) -> list[Row]:
    """(sequence, index, time, event, attempt, who, told) of each event about the task.

    `after`: log sequence the run begins behind. Reads up to the log's end of now.
    """
    subjects = client.subjects
    filters = [*subjects.follow_run(run)[:3], f"{subjects.prefix}assign.>"]
    last = await _newest(client, filters)
    rows: list[Row] = []
    async with aclosing(client.log.read(filters, after, name="dtf-events")) as batches:
        async for messages in batches:
            for message in messages:
                rows += rows_of(message, subjects, run, task)
            if messages[-1].sequence >= last:
                break
    return rows


async def _newest(client: Client, filters: list[str]) -> int:
    """Sequence of the newest stored message that matches a filter; 0 when there is none."""
    found = [await newest_sequence(client, client.subjects.log_stream, each) for each in filters]
    return max(found)


async def newest_sequence(client: Client, stream: str, subject: str) -> int:
    """Sequence of the newest stored message under a subject; 0 when there is none."""
    from ..core.adapters.nats_client import ApiError

    try:
        answer = await client.connection.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except ApiError as error:
        if error.code == NOT_FOUND:
            return 0
        raise
    return int(answer["message"]["seq"])


def rows_of(message: Message, subjects: Subjects, run: str, task: str) -> Iterator[Row]:
    """The rows of one message."""
    subject = subjects.parse(message.subject)
    if subject is None:
        return
    for index, event in enumerate(decode_batch(message.data)):
        if isinstance(event, Undecodable) or not about(event, subject, run, task):
            continue
        named = split_token(getattr(event, "token", None) or "")
        yield [
            message.sequence,
            index,
            message.time_ns,
            type(event).__name__,
            named[1] if named else None,
            who(event, subject),
            told(event),
        ]


def about(event: e.Event, subject: Subject, run: str, task: str) -> bool:
    """Whether the event is about the task of that run (or about the whole run)."""
    if (subject.run or getattr(event, "run", "")) != run:
        return False
    token = getattr(event, "token", None)
    if token is not None:
        named = split_token(token)
        return named is not None and named[0] == task
    if isinstance(event, (e.TaskSettled, e.CancelRequested)):
        return event.task in (task, None)
    place = split_task_id(task)
    if isinstance(event, e.TasksSubmitted):
        return place is not None and event.group == place[0]
    if isinstance(event, e.RangeSettled):
        return (
            place is not None and event.group == place[0] and event.start <= place[1] < event.stop
        )
    return True


def who(event: e.Event, subject: Subject) -> str:
    """The writer of an event, as far as its subject says."""
    if subject.kind in ("run", "attempt"):
        return subject.owner
    term = getattr(event, "term", None)
    return f"leader, term {term}" if term is not None else subject.kind


def told(event: e.Event) -> str:
    """What the event says, in a few words."""
    match event:
        case e.RunSubmitted():
            return f"name {event.name or '-'}, key {event.key}, priority {event.priority}"
        case e.TasksSubmitted():
            return f"group {event.group}, runner {event.spec.runner}"
        case e.TaskAssigned():
            return ", ".join(["devices " + " ".join(event.devices)] if event.devices else [])
        case e.CasesReported():
            return f"{len(event.cases)} cases, {len(event.measurements)} measurements"
        case e.CasesCollected():
            return f"{event.file}, {event.selected} cases"
        case e.ArtifactStored():
            return f"{event.path}, {event.bytes:,} bytes"
        case e.AttemptReturned():
            return event.reason
        case e.AttemptFinished():
            facts = [str(event.verdict), str(event.cause), f"{event.duration_us / 1e3:.1f} ms"]
            exit_code = f"exit {event.exit_code}" if event.exit_code is not None else ""
            return ", ".join(x for x in (*facts, exit_code, _first(event.message)) if x)
        case e.AttemptRevoked():
            return event.mode
        case e.TaskRequeued():
            return f"{event.cause}, again in {event.delay_ms} ms"
        case e.TaskSettled() | e.RangeSettled():
            return f"{event.verdict}, {event.cause}"
        case e.RunSettled():
            return f"{event.verdict}, " + ", ".join(f"{n} {v}" for v, n in event.counts.items())
        case _:
            return str(getattr(event, "reason", ""))


def _first(text: str) -> str:
    return text.strip().partition("\n")[0]
