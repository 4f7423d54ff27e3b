"""The leader's lease on a KV bucket.

Rule: claim and renewal are one fenced write with a time to live of its own.

Raw publishes instead of nats-py's KV: its `create` fails over expiry markers and its `update` makes
a key permanent. Only the server's clock decides when a lease ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

import msgspec

from ..errors import AppendRefused, LogUnavailable
from ..ports import Lease, Message
from .log_reader import LogReader
from .nats_client import Connection

NOTHING_THERE = re.compile(r": 0$")
LOST = frozenset({10071, 10164})
"""Somebody else's revision is in force, or in flight (on replicas)."""


class JetStreamLease:
    """`LeaseStore` over one key of a bucket that `setup.init_pool` made."""

    def __init__(self, connection: Connection, bucket: str, key: str = "leader") -> None:
        self.connection = connection
        self.stream = f"KV_{bucket}"
        self.subject = f"$KV.{bucket}.{key}"

    async def claim(self, holder: str, expected: int, ttl_ms: int) -> int | None:
        """See `LeaseStore.claim`. The server counts in seconds: `ttl_ms` is rounded up to them.

        Raises `AppendRefused` without permission or bucket.
        """
        return await self._write(holder.encode(), expected, f"Nats-TTL: {ttl_s(ttl_ms)}\r\n")

    async def release(self, expected: int) -> bool:
        """See `LeaseStore.release`."""
        return await self._write(b"", expected, "KV-Operation: DEL\r\n") is not None

    async def _write(self, value: bytes, expected: int, header: str) -> int | None:
        headers = (
            f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {expected}\r\n{header}\r\n".encode()
        )
        answer = msgspec.json.decode(
            await self.connection.request(self.subject, value, 1.0, headers=headers)
        )
        error = answer.get("error")
        if error is None:
            return int(answer["seq"])
        if error.get("err_code") in LOST:
            if expected and NOTHING_THERE.search(error.get("description", "")):
                return await self._write(value, 0, header)  # even the marker of its end has expired
            return None
        text = f"{self.subject}: {error.get('description')} ({error.get('err_code')})"
        if 400 <= error.get("code", 0) < 500:
            raise AppendRefused(text)
        raise LogUnavailable(text)

    async def watch(self) -> AsyncGenerator[Lease, None]:
        """See `LeaseStore.watch`. Survives reconnects and server restarts; a state is told once."""
        reader = LogReader(
            self.connection,
            self.stream,
            [self.subject],
            0,
            name="lease",
            deliver="last_per_subject",
        )
        told: Lease | None = None
        reader.open()
        try:
            while True:
                arrived = await reader.next_batch()
                states = [_lease(message) for message in arrived]
                if not arrived and reader.waiting_at_start == 0:
                    states = [Lease("", 0)]  # never written, or its last marker is gone
                for state in states:
                    if state != told:
                        told = state
                        yield state
        finally:
            reader.close()


def ttl_s(ttl_ms: int) -> int:
    """Whole seconds of at least `ttl_ms`: the server would cut 1500 ms to one second."""
    return max(1, -(-ttl_ms // 1000))


def _lease(message: Message) -> Lease:
    headers = message.headers or {}
    vacant = "KV-Operation" in headers or "Nats-Marker-Reason" in headers
    return Lease("" if vacant else message.data.decode("utf-8", "replace"), message.sequence)
