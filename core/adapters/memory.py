"""The ports in memory: same promises, plus faults on demand.

Rule: deterministic; nothing happens that a test did not ask for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path

from ..errors import AppendRefused, BlobCorrupt, BlobMissing, DtfError, LogGap, LogUnavailable
from ..ports import Appended, Clock, Lease, LogTail, Message
from .clock import Cancellable, ManualClock, SystemClock
from .wildcards import subject_matches

__all__ = ["ManualClock", "MemoryBlobs", "MemoryLease", "MemoryLog", "SystemClock"]


class MemoryLog:
    """`EventLog` in memory.

    Faults: `offline` (nothing is stored, no answer), `lose_answers = n` (the next n appends are
    stored but unanswered), `lose_appends = n` (the next n are neither), `refuse(subject, data) ->
    reason or ""`, `hold()` and `let_go()` (appends are stored in order but answered only at
    `let_go`).
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        payload_max: int = 1024 * 1024,
        subjects: Sequence[str] = (">",),
    ) -> None:
        self.messages: list[Message] = []
        self.first = 1
        self.offline = False
        self.lose_answers = 0
        self.lose_appends = 0
        self.refuse: Callable[[str, bytes], str] = lambda subject, data: ""
        self._clock = clock
        self._payload_max = payload_max
        self._subjects = list(subjects)
        self._ids: dict[str, int] = {}
        self._held: deque[tuple[Callable[[Appended | Exception], None], Appended]] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # -- writing -------------------------------------------------------------------------------
    async def append(
        self, subject: str, data: bytes, message_id: str, *, timeout: float = 2.0
    ) -> Appended:
        """See `EventLog.append`."""
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

        def done(result: Appended | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.append_soon(subject, data, message_id, done, timeout=timeout)
        return await future

    def append_soon(
        self,
        subject: str,
        data: bytes,
        message_id: str,
        done: Callable[[Appended | Exception], None],
        *,
        timeout: float = 2.0,
    ) -> None:
        """See `EventLog.append_soon`. Stored before it returns; `done` comes at the next tick."""
        result = self._store(subject, data, message_id)
        if self._held is not None and isinstance(result, Appended):
            self._held.append((done, result))
        else:
            asyncio.get_running_loop().call_soon(done, result)

    def _store(self, subject: str, data: bytes, message_id: str) -> Appended | DtfError:
        refusal = self._refusal(subject, data)
        if refusal:
            return AppendRefused(refusal)
        if self.offline:
            return LogUnavailable("the log is offline")
        if self.lose_appends > 0:
            self.lose_appends -= 1
            return LogUnavailable("the append was lost")
        known = self._ids.get(message_id)
        if known is None:
            known = self.write(subject, data)
            self._ids[message_id] = known
            result = Appended(known)
        else:
            result = Appended(known, True)
        if self.lose_answers > 0:
            self.lose_answers -= 1
            return LogUnavailable("the answer was lost")
        return result

    def _refusal(self, subject: str, data: bytes) -> str:
        if not subject or any(bad in subject for bad in " \t\r\n*>"):
            return f"{subject[:200]!r} is not a subject"
        if len(data) > self._payload_max:
            return f"{len(data)} bytes are more than {self._payload_max}"
        if not any(subject_matches(pattern, subject) for pattern in self._subjects):
            return f"the stream does not take the subject {subject}"
        return self.refuse(subject, data)

    def write(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> int:
        """A message is stored, past every fault; its sequence.

        For tests that write the log themselves.
        """
        sequence = self.first + len(self.messages)
        time_ns = self._clock.time_ns() if self._clock is not None else sequence * 1_000_000
        self.messages.append(Message(sequence, subject, data, time_ns, headers))
        self._wake()
        return sequence

    def hold(self) -> None:
        """Answers wait from now on."""
        if self._held is None:
            self._held = deque()

    def let_go(self) -> None:
        """Held answers are given, in order, and none is held from now on."""
        held, self._held = self._held, None
        for done, result in held or ():
            done(result)

    def purge(self, before: int) -> None:
        """Messages below `before` are gone."""
        gone = min(max(before - self.first, 0), len(self.messages))
        del self.messages[:gone]
        self.first += gone

    # -- reading -------------------------------------------------------------------------------
    async def read(
        self, filters: Sequence[str], after: int, *, name: str = ""
    ) -> AsyncGenerator[list[Message], None]:
        """See `EventLog.read`."""
        last = after
        if after > self.first + len(self.messages) - 1:
            raise LogGap(f"the log ends before {after}")
        while True:
            if not filters and last + 1 < self.first:
                raise LogGap(f"the log continues at {self.first} instead of {last + 1}")
            arrived = self.messages[max(0, last + 1 - self.first) :]
            if arrived:
                last = arrived[-1].sequence
            matching = [m for m in arrived if _matches_any(filters, m.subject)]
            if matching:
                yield matching
            elif not arrived:
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.append(future)
                await future

    async def tail(self) -> LogTail:
        """See `EventLog.tail`."""
        return LogTail(self.first, self.first + len(self.messages) - 1)

    async def get(self, sequence: int) -> Message | None:
        """See `EventLog.get`."""
        index = sequence - self.first
        return self.messages[index] if 0 <= index < len(self.messages) else None

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class MemoryLease:
    """`LeaseStore` in memory. `offline` True: claims and releases raise `LogUnavailable`."""

    def __init__(self, clock: ManualClock | SystemClock) -> None:
        self.offline = False
        self.state = Lease("", 0)
        self._clock = clock
        self._expiry: Cancellable | None = None
        self._watchers: list[asyncio.Queue[Lease]] = []

    async def claim(self, holder: str, expected: int, ttl_ms: int) -> int | None:
        """See `LeaseStore.claim`."""
        self._check()
        if expected != self.state.revision:
            return None
        self._set(holder)
        whole_s = max(1, -(-ttl_ms // 1000))  # as the server counts
        self._expiry = self._clock.call_later(whole_s * 1_000_000_000, lambda: self._set(""))
        return self.state.revision

    async def release(self, expected: int) -> bool:
        """See `LeaseStore.release`."""
        self._check()
        if expected != self.state.revision:
            return False
        self._set("")
        return True

    async def watch(self) -> AsyncGenerator[Lease, None]:
        """See `LeaseStore.watch`."""
        queue: asyncio.Queue[Lease] = asyncio.Queue()  # a lease changes a few times a second
        queue.put_nowait(self.state)
        self._watchers.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.remove(queue)

    def _check(self) -> None:
        if self.offline:
            raise LogUnavailable("the lease store is offline")

    def _set(self, holder: str) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.state = Lease(holder, self.state.revision + 1)
        for queue in self._watchers:
            queue.put_nowait(self.state)


class MemoryBlobs:
    """`BlobStore` in memory. `offline` True: everything raises `LogUnavailable`."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.offline = False

    async def put(self, data: bytes) -> str:
        """See `BlobStore.put`."""
        self._check()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.stored.setdefault(digest, data)
        return digest

    async def put_file(self, path: Path) -> str:
        """See `BlobStore.put_file`."""
        return await self.put(await asyncio.to_thread(path.read_bytes))

    async def get(self, digest: str, *, bytes_max: int = 64 * 1024 * 1024) -> bytes:
        """See `BlobStore.get`."""
        self._check()
        data = self.stored.get(digest)
        if data is None:
            raise BlobMissing(f"{digest} is not stored")
        if len(data) > bytes_max:
            raise BlobCorrupt(
                f"{digest} has {len(data)} bytes, more than the {bytes_max} asked for"
            )
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt(f"the stored content is not {digest}")
        return data

    async def get_file(self, digest: str, path: Path) -> None:
        """See `BlobStore.get_file`."""
        data = await self.get(digest, bytes_max=2**62)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(data)
        temporary.replace(path)

    async def has(self, digest: str) -> bool:
        """See `BlobStore.has`."""
        self._check()
        return digest in self.stored

    def _check(self) -> None:
        if self.offline:
            raise LogUnavailable("the blob store is offline")


def _matches_any(filters: Sequence[str], subject: str) -> bool:
    return not filters or any(subject_matches(pattern, subject) for pattern in filters)
