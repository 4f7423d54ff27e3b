"""What the broker tells about closed connections. Rule: a hint makes things fast, never correct
(protocol W6).

`dtf.sys.disconnect` carries the server's own DISCONNECT events of our account. kill -9, close() and
a forced reconnect look alike, so a hint counts only when the broker lists no newer connection of
the same name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ..core.adapters.nats_client import Connection as Broker
from ..core.errors import DtfError
from ..core.server import DISCONNECT_SUBJECT
from .liveness import Connection

CONNECTIONS_SUBJECT = "$SYS.REQ.ACCOUNT.PING.CONNZ"
CLIENT_CLOSED = "Client Closed"

Gone = Callable[[Connection, str], Awaitable[None]]
"""Told the closed connection and its name."""


class Hints:
    """Listens for closed connections of our account."""

    def __init__(self, broker: Broker, gone: Gone) -> None:
        self.broker = broker
        self.gone = gone
        self._events: asyncio.Queue[tuple[Connection, str]] = asyncio.Queue(maxsize=1024)
        # Full means a thousand clients vanished at once: heartbeats then tell the rest.

    async def run(self) -> None:
        """Handle hints for ever."""
        listening = self.broker.listen(DISCONNECT_SUBJECT, self._on_event)
        try:
            while True:
                connection, name = await self._events.get()
                await self.gone(connection, name)
        finally:
            self.broker.unlisten(listening)

    def _on_event(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        try:
            event: Any = msgspec.json.decode(data)
            client = event["client"]
            if event.get("reason") != CLIENT_CLOSED or self._events.full():
                return
            closed = Connection(event["server"]["id"], int(client["id"]))
            self._events.put_nowait((closed, str(client.get("name", ""))))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
            return

    async def is_connected(self, name: str) -> bool:
        """Whether the broker lists a connection of that name; False also when it cannot say."""
        try:
            raw = await self.broker.request(CONNECTIONS_SUBJECT, b'{"limit": 65536}', timeout=0.5)
            answer: Any = msgspec.json.decode(raw)
            found = answer.get("data", answer).get("connections", [])
            return any(entry.get("name") == name for entry in found)
        except (DtfError, msgspec.DecodeError, AttributeError, TypeError):
            return False
