"""Twins of the streams and of the lease. Rule: one total order; each reader lags on its own, each
acknowledgement may be lost, and a message may be stored twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any, Protocol

from dtf.core.adapters.nats_client import ApiError
from dtf.core.adapters.wildcards import subject_matches
from dtf.core.errors import AppendRefused, LogUnavailable
from dtf.core.ports import Appended, Lease, LogTail, Message
from dtf.core.run_reader import NO_MESSAGE

from .loop import Life
from .network import SERVER, Link, Network

GIVES = b'"TaskAssigned"'
Fate = tuple[str, float]


class Watcher(Protocol):
    """Who looks on, and may kill a node between any two steps."""

    def stored(self, message: Message) -> None: ...
    def fate(self, life: Life) -> Fate: ...
    def reading(self, life: Life) -> str: ...
    def kill(self, life: Life, why: str) -> None: ...
    def sending(self, link: Link, subject: str, message_id: str, data: bytes) -> None: ...


class Stream:
    """What the server keeps of one stream."""

    def __init__(self, network: Network, watcher: Watcher | None, *, dedup: bool) -> None:
        self.network = network
        self.watcher = watcher
        self.dedup = dedup
        self.messages: list[Message] = []
        self.readers: list[Reader] = []
        self._ids: dict[str, int] = {}
        network.on_up.append(self._after_restart)

    @property
    def last(self) -> int:
        return len(self.messages)

    def store(
        self, subject: str, data: bytes, message_id: str, headers: Mapping[str, str] | None = None
    ) -> Appended:
        """A message has arrived."""
        known = self._ids.get(message_id) if self.dedup else None
        if known is not None:
            return Appended(known, True)
        message = Message(self.last + 1, subject, data, self.network.time_ns(), headers)
        self.messages.append(message)
        self._ids[message_id] = message.sequence
        for reader in self.readers:
            reader.poke()
        if self.watcher is not None:
            self.watcher.stored(message)
        return Appended(message.sequence)

    def find(self, request: dict[str, Any]) -> dict[str, Any]:
        """JetStream's index: the next or the last message under a subject."""
        pattern = request.get("next_by_subj") or request["last_by_subj"]
        found = [m.sequence for m in self.messages if subject_matches(pattern, m.subject)]
        if "next_by_subj" in request:
            found = [sequence for sequence in found if sequence >= request.get("seq", 1)][:1]
        if not found:
            raise ApiError("STREAM.MSG.GET", 404, NO_MESSAGE, "no message found")
        return {"message": {"seq": found[-1]}}

    def _after_restart(self) -> None:
        for reader in self.readers:
            reader.again()


class Reader:
    """One reader of one stream, as far as messages have reached it."""

    def __init__(self, stream: Stream, link: Link, after: int) -> None:
        self.stream, self.link = stream, link
        self.visible = after
        self.due = False
        self.waiter: asyncio.Future[None] | None = None
        self._context = copy_context()
        link.on_new.append(self.again)

    def again(self) -> None:
        """What was on its way to it is lost: it is sent again."""
        self.due = False
        self.poke()

    def poke(self) -> None:
        """Something new is on its way to it."""
        if not self.due:
            self.due = True
            slow = self.link.loop.time() < self.link.slow_until
            lag = self.link.slow_s * self.link.rng.random() if slow else 0.0
            self.link.answer(self._context, self._deliver, late_s=lag)

    def _deliver(self) -> None:
        self.due = False
        if not self.stream.network.up:
            return
        self.visible = max(self.visible, self.stream.last)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Port:
    """`EventLog` of one node."""

    def __init__(self, stream: Stream, link: Link) -> None:
        self.stream, self.link = stream, link

    async def append(
        self, subject: str, data: bytes, message_id: str, *, timeout: float = 2.0
    ) -> Appended:
        future: asyncio.Future[Appended] = self.link.loop.create_future()

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
        link, loop, watcher = self.link, self.link.loop, self.stream.watcher
        if link.life.dead:
            return
        kind, value = watcher.fate(link.life) if watcher is not None else ("", 0.0)
        if kind == "die_before" and watcher is not None:
            watcher.kill(link.life, "before it sent a message")
            return
        if not link.connected:
            loop.call_soon(done, LogUnavailable("not connected"))
            return
        if kind == "refuse" and not (link.life.name[0] == "w" and data.count(b'"type":') < 2):
            loop.call_soon(done, AppendRefused("refused, as asked for"))
            return
        if watcher is not None:
            watcher.sending(link, subject, message_id, data)
        answered = False
        context = copy_context()

        def tell(result: Appended | Exception) -> None:
            nonlocal answered
            if not answered:
                answered = True
                timer.cancel()
                if isinstance(result, Appended):
                    link.unanswered.pop(subject, None)
                done(result)

        def at_server() -> None:
            stored = self.stream.store(subject, data, message_id)
            if kind == "die_after" and watcher is not None:
                watcher.kill(link.life, "after its message was stored")
            if kind != "lose_ack":
                link.answer(context, tell, stored)

        timer = loop.call_later(timeout, tell, LogUnavailable("no answer"))
        if kind != "drop":
            link.send(at_server, value if kind == "late" else 0.0)
        if kind == "twice":
            again = f"{message_id}-again"
            loop.call_later(value, lambda: self.stream.store(subject, data, again), context=SERVER)

    async def read(
        self, filters: Sequence[str], after: int, *, name: str = ""
    ) -> AsyncGenerator[list[Message], None]:
        stream, link, watcher = self.stream, self.link, self.stream.watcher
        reader = Reader(stream, link, after)
        stream.readers.append(reader)
        reader.poke()
        last = after
        known: dict[str, bool] = {}
        try:
            while True:
                if reader.visible <= last:
                    reader.waiter = link.loop.create_future()
                    await reader.waiter
                    continue
                stop = reader.visible
                if link.rng.random() < 0.2:
                    stop = last + 1
                batch = stream.messages[last:stop]
                last = stop
                if filters:
                    batch = [m for m in batch if _wanted(known, filters, m.subject)]
                if not batch:
                    continue
                how = watcher.reading(link.life) if watcher is not None else ""
                if how == "die":
                    await link.loop.create_future()  # killed right here
                if how == "miss":
                    batch = [m._replace(data=b"[]") if GIVES in m.data else m for m in batch]
                yield batch
        finally:
            stream.readers = [other for other in stream.readers if other is not reader]

    async def tail(self) -> LogTail:
        tail: LogTail = await self.link.ask(lambda: LogTail(1, self.stream.last))
        return tail

    async def get(self, sequence: int) -> Message | None:
        found = self.stream.messages[sequence - 1 : sequence]
        return found[0] if found else None


def _wanted(known: dict[str, bool], filters: Sequence[str], subject: str) -> bool:
    found = known.get(subject)
    if found is None:
        found = known[subject] = any(subject_matches(each, subject) for each in filters)
    return found


class LeaseTwin:
    """The server's side of the leader key."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.state = Lease("", 0)
        self.watchers: list[tuple[Link, Context, asyncio.Queue[Lease]]] = []
        self._expiry: asyncio.TimerHandle | None = None
        network.on_up.append(self.tell)

    def set(self, holder: str, ttl_ms: int = 0) -> None:
        """The key changes; everyone who watches hears of it, later."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.state = Lease(holder, self.state.revision + 1)
        if ttl_ms:
            whole_s = max(1, -(-ttl_ms // 1000))
            self._expiry = self.network.loop.call_later(whole_s, self.set, "", context=SERVER)
        self.tell()

    def tell(self) -> None:
        """Watchers hear of the state."""
        if self.network.up:
            for link, context, queue in self.watchers:
                link.answer(context, queue.put_nowait, self.state)


class LeasePort:
    """`LeaseStore` of one node."""

    def __init__(self, twin: LeaseTwin, link: Link) -> None:
        self.twin, self.link = twin, link

    async def claim(self, holder: str, expected: int, ttl_ms: int) -> int | None:
        def work() -> int | None:
            if expected != self.twin.state.revision:
                return None
            self.twin.set(holder, ttl_ms)
            return self.twin.state.revision

        revision: int | None = await self.link.ask(work, 1.0)
        return revision

    async def release(self, expected: int) -> bool:
        def work() -> bool:
            if expected != self.twin.state.revision:
                return False
            self.twin.set("")
            return True

        released: bool = await self.link.ask(work, 1.0)
        return released

    async def watch(self) -> AsyncGenerator[Lease, None]:
        queue: asyncio.Queue[Lease] = asyncio.Queue()
        context = copy_context()
        self.twin.watchers.append((self.link, context, queue))

        def tell() -> None:
            self.link.answer(context, queue.put_nowait, self.twin.state)

        self.link.on_new.append(tell)
        tell()
        while True:
            yield await queue.get()
