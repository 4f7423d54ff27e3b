"""Every port of dtf, in one file.

Rule: deciding code sees these and nothing else; each has a twin in memory.

Adapters: `adapters/jetstream.py` (NATS) and `adapters/memory.py` (tests, simulation). One contract
suite runs on both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """A stored message.

    `sequence` counts from 1 in its stream; `time_ns` is the server's clock (Unix nanoseconds).
    """

    sequence: int
    subject: str
    data: bytes
    time_ns: int = 0
    headers: Mapping[str, str] | None = None


class Appended(NamedTuple):
    """Where a message was stored.

    `duplicate`: the broker knew the message id and kept the first copy.
    """

    sequence: int
    duplicate: bool = False


class LogTail(NamedTuple):
    """First and last sequence of a stream; last 0 and first 1 when it never held anything."""

    first: int
    last: int


class EventLog(Protocol):
    """One durable stream in one total order. Acknowledged means fsync'ed."""

    async def append(
        self, subject: str, data: bytes, message_id: str, *, timeout: float = 2.0
    ) -> Appended:
        """Store one message; returns once it is durable.

        Raises `LogUnavailable` when no answer came (stored or not: send again with the same id,
        protocol F6) and `AppendRefused` when the log refuses for good (too large, no permission,
        no stream).
        """
        ...

    def append_soon(
        self,
        subject: str,
        data: bytes,
        message_id: str,
        done: Callable[[Appended | Exception], None],
        *,
        timeout: float = 2.0,
    ) -> None:
        """`append` without a task: returns at once, calls `done` from the event loop.

        For group-commit writers.
        """
        ...

    def read(
        self, filters: Sequence[str], after: int, *, name: str = ""
    ) -> AsyncGenerator[list[Message], None]:
        """Messages that match any filter (all when empty) with sequence > `after`, in order.

        Live, without end. Yields non-empty batches of what has arrived. Bounded: nothing more is
        fetched than the reader works off. Survives reconnects, server restarts and lost consumers
        without a gap or a repeat. An unfiltered reader raises `LogGap` when sequences are missing
        (purged). Close it (`aclosing`) to free the consumer.
        """
        ...

    async def tail(self) -> LogTail:
        """First and last stored sequence now."""
        ...

    async def get(self, sequence: int) -> Message | None:
        """One stored message, or None when it is not there."""
        ...


class Lease(NamedTuple):
    """Who holds the leader key; `holder` is "" when nobody does.

    `revision` moves with every change.
    """

    holder: str
    revision: int


class LeaseStore(Protocol):
    """A key with a time to live: the permission to try to lead (protocol L2)."""

    async def claim(self, holder: str, expected: int, ttl_ms: int) -> int | None:
        """Take or renew the key if its revision is still `expected` (0: never written).

        The new revision, or None if somebody was faster. Raises `LogUnavailable` without an answer.
        """
        ...

    async def release(self, expected: int) -> bool:
        """Give the key back if its revision is still `expected`; watchers learn at once."""
        ...

    def watch(self) -> AsyncGenerator[Lease, None]:
        """The current state first, then every change, without end.

        A change is a claim, a renewal, a release or an expiry.
        """
        ...


class BlobStore(Protocol):
    """Content-addressed bytes.

    A digest is "sha256:<hex>"; putting the same content twice stores it once.
    """

    async def put_file(self, path: Path) -> str:
        """Store a file; its digest. Idempotent. Raises `LogUnavailable` or `AppendRefused`."""
        ...

    async def put(self, data: bytes) -> str:
        """Store bytes; their digest."""
        ...

    async def get_file(self, digest: str, path: Path) -> None:
        """Write the content to `path`, complete and verified, or not at all.

        Raises `BlobMissing` or `BlobCorrupt`.
        """
        ...

    async def get(self, digest: str, *, bytes_max: int = 64 * 1024 * 1024) -> bytes:
        """The content in memory, verified; for small things."""
        ...

    async def has(self, digest: str) -> bool:
        """Whether the content is stored."""
        ...


class Clock(Protocol):
    """Time as the shells know it. Decisions get it as an argument."""

    def monotonic_ns(self) -> int:
        """A clock that never goes back, for limits and ages."""
        ...

    def time_ns(self) -> int:
        """Wall clock (Unix nanoseconds), for people only."""
        ...
