"""Group commit.

Rule: one un-acknowledged message a subject; whatever comes meanwhile goes into the next one.

Idle, an event leaves at the next tick of the loop; under load a message takes all that waits, cut
by count and bytes. No task, future or timer per event. A message that got no answer is sent again
under its own id until the writer is closed (a time-out is never a no); one the log refuses is split
until the refused event stands alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from .codec import BATCH_EVENTS_MAX, MESSAGE_BYTES_MAX, encode_event, join_batch
from .errors import AppendRefused, LogUnavailable
from .events import Event
from .ids import random_id
from .ports import Appended, EventLog

log = logging.getLogger("dtf.writer")
Stored = Callable[[int, int], None]
RETRY_S = 0.1
INFLIGHT_MAX = 256
"""Most un-acknowledged messages of one writer, over all subjects."""


class _Group:
    """One message: its events, who wants to know, and the id it keeps over retries."""

    __slots__ = ("data", "events", "first", "message_id", "stored")

    def __init__(self, events: list[bytes], stored: list[Stored | None]) -> None:
        self.events = events
        self.stored = stored
        self.data = join_batch(events)
        self.message_id = random_id(26)
        self.first = True


class _Lane:
    """What waits for one subject."""

    __slots__ = ("events", "groups", "inflight", "lingering", "queued", "stored", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.events: deque[bytes] = deque()
        self.stored: deque[Stored | None] = deque()
        self.groups: deque[_Group] = deque()
        """Halves of a refused message; they go before `events`."""
        self.inflight = False
        self.queued = False
        self.lingering: asyncio.TimerHandle | None = None
        """Runs while all that waits may wait for company."""


class GroupWriter:
    """Writes events in order per subject, many to a message; says when each is durable.

    `on_error(error)` hears of each event the log refuses for good; its `stored` is never called.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        events_max: int = BATCH_EVENTS_MAX,
        bytes_max: int = MESSAGE_BYTES_MAX,
        on_error: Callable[[Exception], None] | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        self.log = log
        self.pending = 0
        """Events put and not yet durable (or refused)."""
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._on_error = on_error
        self._timeout_s = timeout_s
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._inflight = 0
        self._flushing: asyncio.Handle | None = None
        self._retries: set[asyncio.TimerHandle] = set()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._closed = False
        self._loop = asyncio.get_running_loop()

    # -- in ------------------------------------------------------------------------------------
    def put(
        self, subject: str, event: Event, stored: Stored | None = None, *, linger_s: float = 0.0
    ) -> None:
        """The event will be stored; `stored(sequence, index)` is called when it is durable.

        Encoded at once. It may wait up to `linger_s` for others under its subject, so that they
        share a message; an event that may not wait takes along all that does.
        """
        self.put_encoded(subject, encode_event(event), stored, linger_s=linger_s)

    def put_encoded(
        self, subject: str, data: bytes, stored: Stored | None = None, *, linger_s: float = 0.0
    ) -> None:
        """`put` for one event that is JSON already."""
        if self._closed:
            raise RuntimeError("put on a closed GroupWriter")
        lane = self._lanes.get(subject)
        if lane is None:
            lane = self._lanes[subject] = _Lane(subject)
        lane.events.append(data)
        lane.stored.append(stored)
        self.pending += 1
        if lane.queued:
            return
        if linger_s and len(lane.events) < self._events_max:
            if lane.lingering is None and len(lane.events) == 1:
                lane.lingering = self._loop.call_later(linger_s, self._hurry, lane)
        elif lane.lingering is not None:
            self._hurry(lane)
        elif not lane.inflight:
            self._enqueue(lane)

    async def flushed(self) -> None:
        """Everything put so far and meanwhile is durable or refused; nothing lingers."""
        for lane in list(self._lanes.values()):
            if lane.lingering is not None:
                self._hurry(lane)
        await self.room(1)

    async def room(self, limit: int) -> None:
        """Fewer than `limit` events are pending: back-pressure for whoever puts."""
        if self.pending < limit:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((limit, future))
        await future

    async def aclose(self) -> None:
        """Nothing more is sent; what was not acknowledged may or may not be stored.

        Call `flushed` before.
        """
        if self._closed:
            return
        self._closed = True
        if self._flushing is not None:
            self._flushing.cancel()
        for timer in self._retries:
            timer.cancel()
        self._retries.clear()
        for lane in self._lanes.values():
            if lane.lingering is not None:
                lane.lingering.cancel()
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(
                    LogUnavailable(f"the writer was closed with {self.pending} events pending")
                )
        self._waiters.clear()

    # -- out -----------------------------------------------------------------------------------
    def _hurry(self, lane: _Lane) -> None:
        """What waits in the lane waits no longer than its turn."""
        if lane.lingering is not None:
            lane.lingering.cancel()
            lane.lingering = None
        if not lane.inflight and not lane.queued:
            self._enqueue(lane)

    def _enqueue(self, lane: _Lane) -> None:
        lane.queued = True
        self._ready.append(lane)
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        ready = self._ready
        while ready and self._inflight < INFLIGHT_MAX:
            lane = ready.popleft()
            lane.queued = False
            group = lane.groups.popleft() if lane.groups else self._cut(lane)
            lane.inflight = True
            self._inflight += 1
            self._send(lane, group)

    def _cut(self, lane: _Lane) -> _Group:
        """The next message of a lane: as many of its events as fit, at least one."""
        waiting = lane.events
        events = [waiting.popleft()]
        size = len(events[0]) + 2
        while waiting and len(events) < self._events_max:
            size += len(waiting[0]) + 1
            if size > self._bytes_max:
                break
            events.append(waiting.popleft())
        stored = lane.stored
        return _Group(events, [stored.popleft() for _ in events])

    def _send(self, lane: _Lane, group: _Group) -> None:
        self.log.append_soon(
            lane.subject,
            group.data,
            group.message_id,
            lambda result: self._answered(lane, group, result),
            timeout=self._timeout_s,
        )

    def _answered(self, lane: _Lane, group: _Group, result: Appended | Exception) -> None:
        if self._closed:
            return
        if isinstance(result, Appended):
            if result.duplicate and group.first:
                group.message_id = random_id(
                    26
                )  # somebody else used our id before us (protocol F6)
                self._send(lane, group)
                return
            self._done(lane, len(group.events))
            self._tell(group, result.sequence)
        elif isinstance(result, AppendRefused):
            self._refused(lane, group, result)
        else:
            group.first = False
            log.info("%s: sending again: %s", lane.subject, result)
            self._again_later(lane, group)

    def _again_later(self, lane: _Lane, group: _Group) -> None:
        def again() -> None:
            self._retries.discard(timer)
            self._send(lane, group)

        timer = self._loop.call_later(RETRY_S, again)
        self._retries.add(timer)

    def _refused(self, lane: _Lane, group: _Group, error: AppendRefused) -> None:
        count = len(group.events)
        if count > 1:
            half = count // 2
            lane.groups.appendleft(_Group(group.events[half:], group.stored[half:]))
            lane.groups.appendleft(_Group(group.events[:half], group.stored[:half]))
            self._done(lane, 0)
            return
        log.error("%s: refused: %s", lane.subject, error)
        self._done(lane, 1)
        if self._on_error is not None:
            self._on_error(error)

    def _done(self, lane: _Lane, count: int) -> None:
        """A message is over: the lane sends its next one in this very tick."""
        lane.inflight = False
        self._inflight -= 1
        self.pending -= count
        if lane.groups or (lane.events and lane.lingering is None):
            lane.queued = True
            self._ready.append(lane)
        elif not lane.events:
            del self._lanes[lane.subject]
        if self._ready and self._flushing is None:
            self._flush()
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, []
        for limit, future in waiting:
            if self.pending >= limit:
                self._waiters.append((limit, future))
            elif not future.done():
                future.set_result(None)

    def _tell(self, group: _Group, sequence: int) -> None:
        for index, stored in enumerate(group.stored):
            if stored is not None:
                try:
                    stored(sequence, index)
                except Exception as error:  # boundary: a listener's bug must not stop the writing
                    log.exception("a listener failed at (%d, %d)", sequence, index)
                    if self._on_error is not None:
                        self._on_error(error)
