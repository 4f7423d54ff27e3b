"""Heartbeats into rows. Rule: telemetry decides nothing, so its loss is no harm."""

from __future__ import annotations

import logging
from contextlib import aclosing

from ..core.codec import decode_telemetry
from ..core.errors import DtfError
from ..core.events import Heartbeat
from ..core.ports import EventLog, Message
from ..core.subjects import Subjects
from .records import Row, wide

log = logging.getLogger("dtf.projector")
ROWS_MAX = 100_000
"""Heartbeats that may wait to be written; older ones are dropped beyond that."""


class BeatReader:
    """Reads a pool's heartbeats; the projector takes the rows and their position."""

    def __init__(self, telemetry: EventLog, subjects: Subjects) -> None:
        self.rows: list[Row] = []
        self.sequence = 0
        self._telemetry = telemetry
        self._prefix = subjects.prefix

    async def run(self, after: int) -> None:
        """Read from behind `after` until cancelled; a stream that began anew, from its start."""
        self.rows, self.sequence = [], 0
        filters = [f"{self._prefix}beat.*", f"{self._prefix}health.*"]
        try:
            tail = await self._telemetry.tail()
            start = after if tail.last >= after else 0
            batches = self._telemetry.read(filters, start, name="projector-beats")
            async with aclosing(batches):
                async for batch in batches:
                    for message in batch:
                        self.rows += beat_rows(message)
                    self.sequence = batch[-1].sequence
                    del self.rows[:-ROWS_MAX]
        except DtfError as error:
            log.warning("no heartbeats from here on: %s", error)

    def take(self) -> tuple[list[Row], int]:
        """Rows since the last call, and the sequence they reach."""
        rows, self.rows = self.rows, []
        return rows, self.sequence


def beat_rows(message: Message) -> list[Row]:
    """The rows of one telemetry message; none of what is no heartbeat."""
    kind, name = message.subject.split(".")[-2:]
    source = "worker" if kind == "beat" else "coordinator"
    us = message.time_ns // 1000
    return [
        (source, name, beat.incarnation, beat.sequence, len(beat.held), beat.running,
         beat.cpu_percent, beat.memory_bytes, beat.load1, beat.server_id, wide(beat.client_id),
         message.sequence, index, us)
        for index, beat in enumerate(decode_telemetry(message.data))
        if isinstance(beat, Heartbeat)
    ]  # fmt: skip
