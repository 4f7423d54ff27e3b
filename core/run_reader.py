"""Reading one run from the log.

Rule: from its first message, by one consumer, and never believing a half-read past.

Where the run begins and what the newest message about it is, JetStream's index says; who led before
it, a history of elections that is read once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from .adapters.nats_client import ApiError, Connection
from .elections import ElectionHistory, Elections
from .errors import NotFound
from .follow import RunView
from .ids import check_name
from .ports import EventLog, Message
from .subjects import Subjects

NO_MESSAGE = 10037
STREAM_NOT_FOUND = 10059


class RunReader:
    """Reads runs of one pool; keeps the elections it has seen."""

    def __init__(self, connection: Connection, log: EventLog, subjects: Subjects) -> None:
        self.connection = connection
        self.log = log
        self.subjects = subjects
        self._elections = ElectionHistory(subjects.leader)

    async def read(self, view: RunView) -> AsyncGenerator[RunView]:
        """Feeds the new `view`; yields it once it is as of now, then after each change, until the
        run is over.

        Raises `NotFound` when nothing was ever submitted under the run's id, or its key was
        released.
        """
        first, goal = await self._extent(check_name(view.run, "run"))
        view.begin(await self._elections_before(first))
        changed = True
        filters = self.subjects.follow_run(view.run)
        async with aclosing(self.log.read(filters, first - 1, name="follow")) as batches:
            async for batch in batches:
                for message in batch:
                    changed = view.feed(message) or changed
                self._elections.feed(batch, view.sequence)
                if view.sequence < goal or not changed:
                    continue
                if view.forgotten:
                    raise _no_run(view.run)
                changed = False
                yield view
                if view.done:
                    return

    async def find(self, request: dict[str, Any]) -> int:
        """Sequence of the stored message that JetStream's index names; 0 when there is none."""
        stream = self.subjects.log_stream
        try:
            answer = await self.connection.api(f"STREAM.MSG.GET.{stream}", request)
        except ApiError as error:
            if error.err_code == NO_MESSAGE:
                return 0
            if error.err_code == STREAM_NOT_FOUND:
                raise NotFound(
                    f"there is no pool {self.subjects.pool!r} on {self.connection.options.url}",
                    remedy="Create it: `dtf pool init`, or name another one (--pool).",
                ) from error
            raise
        return int(answer["message"]["seq"])

    async def _extent(self, run: str) -> tuple[int, int]:
        """(first, newest) log sequence about the run as of now; raises `NotFound` without any."""
        submitted = f"{self.subjects.prefix}run.*.{run}"
        first, submission, ruling = await asyncio.gather(
            self.find({"seq": 1, "next_by_subj": submitted}),
            self.find({"last_by_subj": submitted}),
            self.find({"last_by_subj": self.subjects.ruling(run)}),
        )
        if not first:
            raise _no_run(run)
        return first, max(submission, ruling)

    async def _elections_before(self, sequence: int) -> Elections:
        """Who leads right before that stored message.

        Reads each election once in a client's life.
        """
        history = self._elections
        if sequence > history.until + 1:
            subject = self.subjects.leader
            newest = await self.find({"last_by_subj": subject})
            found: list[Message] = []
            if newest > history.until:
                async with aclosing(self.log.read([subject], history.until)) as batches:
                    async for batch in batches:
                        found += batch
                        if batch[-1].sequence >= newest:
                            break
            history.feed(found, max(newest, sequence - 1))
        return history.before(sequence)


def _no_run(run: str) -> NotFound:
    return NotFound(f"there is no run {run!r}", remedy="List runs with: dtf runs ls")
