"""The output and events of a task. Rule: bytes as they came; following ends with the attempt."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import anyio
from cyclopts import Parameter

from ..core.errors import BlobMissing, NotFound
from ..core.listing import Column, Listing
from .console import say
from .event_story import events_of_task, newest_sequence
from .history import History, TaskName, open_history
from .next_step import command

if TYPE_CHECKING:
    from ..core.client import Client

OUTPUT_SHOWN_MAX = 64 * 1024 * 1024


async def task_log(
    task: str,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    attempt: Annotated[int | None, Parameter(name=["--attempt", "-a"])] = None,
) -> int:
    """The output of a task: stdout and stderr, in order of arrival.

    Parameters
    ----------
    task
        RUN/TASK; RUN may be a unique beginning or `last`.
    follow
        Show output as it comes, until the attempt is over.
    attempt
        Number of the attempt; the last one without it.
    """
    async with open_history() as history:
        named = await history.task(task)
        found = await _attempt(history, named, attempt)
        if found is None and follow and history.client is not None:
            await _Tail(history.client, named, attempt or 1).follow()
            return 0
        if found is None:
            raise NotFound(
                f"{named.task} was not started yet",
                remedy=command("task", "log", f"{named.run[:10]}/{named.task}", "-f"),
            )
        number, is_open, digest, tail = found
        if is_open and history.client is not None:
            tail_ = _Tail(history.client, named, number)
            await (tail_.follow() if follow else tail_.print_past())
        else:
            await _stored(history, named, number, digest, tail or "")
    return 0


async def _attempt(
    history: History, named: TaskName, attempt: int | None
) -> tuple[int, bool, str | None, str | None] | None:
    """(number, still open, digest, tail) of an attempt, the last one by default."""
    rows = await history.rows(
        """SELECT attempt, state IN ('assigned', 'running'), output_digest, output_tail
        FROM attempts WHERE run = ? AND task = ? AND attempt = coalesce(?, attempt)
        ORDER BY attempt DESC LIMIT 1""",
        *named,
        attempt,
    )
    if not rows:
        return None
    number, is_open, digest, tail = rows[0]
    return number, is_open, digest, tail


async def _stored(
    history: History, named: TaskName, number: int, digest: str | None, tail: str
) -> None:
    """The whole stored output, else the live chunks still kept, else its last lines."""
    if digest is None:
        _write(tail)
        if not tail:
            say(f"attempt {number} of {named.task} printed nothing", style="dim")
        return
    try:
        async with history.log() as client:
            data = await client.blobs.get(digest, bytes_max=OUTPUT_SHOWN_MAX)
    except BlobMissing:
        _write(tail)
        say("These are its last lines; the stored output is gone.", style="dim")
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class _Tail:
    """The live output of one attempt, printed as it comes until the attempt is over.

    A worker says when it has sent the last chunk; where it was lost, the rulings say it is over.
    """

    def __init__(self, client: Client, named: TaskName, number: int) -> None:
        self.client, self.named, self.number = client, named, number
        self.subject = client.subjects.output(named.run, named.task, number)
        self._printed = 0
        self._goal: int | None = None

    async def follow(self) -> None:
        """Everything the attempt prints is on stdout; returns when it is over."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group.cancel_scope, name="rulings")
            await self._print()
            group.cancel_scope.cancel()

    async def print_past(self) -> None:
        """What the attempt has printed so far is on stdout."""
        self._goal = await self._newest()
        if self._goal:
            await self._print()

    async def _print(self) -> None:
        from ..core.codec import decode_telemetry
        from ..core.events import OutputChunk

        async with aclosing(self.client.output.read([self.subject], 0, name="log")) as batches:
            async for messages in batches:
                for event in (e for m in messages for e in decode_telemetry(m.data)):
                    if isinstance(event, OutputChunk):
                        _write(event.text)
                        if event.last:
                            return
                self._printed = messages[-1].sequence
                if self._goal is not None and self._printed >= self._goal:
                    return

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """Once the attempt is over by the log, nothing but what is stored by then will come."""
        async with aclosing(self.client.follow(self.named.run)) as views:
            async for view in views:
                task = view.find(self.named.task)
                if task is not None and (task.verdict or task.attempts > self.number):
                    break
        self._goal = await self._newest()
        if self._printed >= self._goal:
            scope.cancel()

    async def _newest(self) -> int:
        """Sequence of the attempt's newest chunk; 0 when there is none."""
        stream = self.client.subjects.output_stream
        return await newest_sequence(self.client, stream, self.subject)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


async def task_events(task: str, /) -> Listing:
    """Every event about a task, in the order of the log.

    Parameters
    ----------
    task
        RUN/TASK; RUN may be a unique beginning or `last`.
    """
    async with open_history() as history:
        named = await history.task(task)
        begin, voids = await _places(history, named.run)
        async with history.log() as client:
            rows = await events_of_task(client, named.run, named.task, begin)
        rows = [[*row, voids.get((row[0], row[1]))] for row in rows]
    columns = [
        Column(name="sequence", title="seq", kind="count"),
        Column(name="index", kind="count", wide=True),
        Column(name="time_ns", title="when", kind="time_ns"),
        Column(name="event"),
        Column(name="attempt", kind="count"),
        Column(name="who"),
        Column(name="told", flexible=True),
        Column(name="void", wide=True),
    ]
    return Listing(kind="events", columns=columns, rows=rows, empty="No events yet.")


async def _places(history: History, run: str) -> tuple[int, dict[tuple[int, int], str]]:
    """(log sequence right before the run, position of void events about it -> why)."""
    begin = await history.rows("SELECT min(opened_seq) FROM runs WHERE run = ?", run)
    voids = await history.rows("SELECT seq, idx, reason FROM voids WHERE run = ?", run)
    first = begin[0][0] if begin and begin[0][0] else 1
    return first - 1, {(seq, idx): reason for seq, idx, reason in voids}
