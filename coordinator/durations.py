"""Every coordinator tells how long cases last. Rule: answering never holds up deciding.

Request and replies are described in `core/ask_durations.py`; coordinators share the requests.
"""

from __future__ import annotations

import asyncio

import anyio
import msgspec

from ..core.adapters.nats_client import Connection
from ..core.ask_durations import DurationsRequest, replies
from ..core.durations import Durations

REPLY_BYTES = 128 * 1024
"""One part of an answer takes about a millisecond to make."""
ASKED_MAX = 16
"""More at once are dropped: whoever asks gets on without an answer."""
_decode = msgspec.json.Decoder(DurationsRequest).decode


class DurationsService:
    """Remembers durations as the coordinator folds, and answers from them."""

    def __init__(self, connection: Connection | None, subject: str) -> None:
        """`connection` None: nobody can ask."""
        self._connection = connection
        self._subject = subject
        self._durations = Durations()
        self.observe = self._durations.observe
        self._asked = 0
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self) -> None:
        """Answer until cancelled."""
        if self._connection is None:
            return
        nc = self._connection.nc
        listening = nc.listen(self._subject, self._on_request, queue="durations")
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                await anyio.sleep_forever()
        finally:
            self._group = None
            nc.unlisten(listening)

    def _on_request(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """From the parser: nothing may be raised here. What is no request gets no answer."""
        if not reply or not (self._group and self._connection) or self._asked >= ASKED_MAX:
            return
        try:
            request = _decode(data)
            inbox = reply.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._asked += 1
        self._group.start_soon(self._answer, self._connection, request, inbox, name="answer")

    async def _answer(self, to: Connection, request: DurationsRequest, inbox: str) -> None:
        try:
            known = [
                (path, dict(cases))
                for path, cases in self._durations.known(request.history, request.hardware)
            ]
            limit = min(REPLY_BYTES, to.payload_max // 2)
            for data in replies(known, limit):
                to.send(inbox, data)
                await asyncio.sleep(0)
        finally:
            self._asked -= 1
