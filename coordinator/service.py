"""The coordinator process: reads, folds, competes, and while it leads sends what the scheduler
decides.

Rule: publish, read back, then believe. The shell decides nothing; it moves messages and keeps time.
A message that got no answer is sent again under its id until it is acknowledged or this coordinator
is deposed (protocol L2, L4, L5).
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from contextlib import aclosing

import anyio
import msgspec

from ..core import events as e
from ..core.adapters.clock import SystemClock
from ..core.adapters.jetstream import JetStreamLog
from ..core.adapters.lease import JetStreamLease
from ..core.adapters.nats_client import Connection as Broker
from ..core.codec import decode_telemetry, encode_event, join_batch
from ..core.errors import LogUnavailable
from ..core.fold import Fold, Judged
from ..core.ids import check_name, random_id
from ..core.ports import Clock, EventLog, LeaseStore, Message
from .durations import DurationsService
from .election import LeaseKeeper, new_nonce
from .hints import Hints
from .liveness import SILENCE_MS, Connection, Liveness
from .overdue import Limits
from .scheduler import Scheduler
from .sender import RESEND_S, WaveSender

log = logging.getLogger("dtf.coordinator")
TICK_S = 0.25
CLAIM_PAUSE_S_MAX = 5.0
"""Longest pause between claims the log did not accept: each of them is a void event for ever."""


class CoordinatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one coordinator. Shorter is faster to notice and quicker to be wrong."""

    lease_ttl_ms: int = 3_000
    """Time to live of the leader key; at least 1000 (the broker's minimum)."""
    beat_ms: int = 1_000
    silence_ms: int = SILENCE_MS
    """A worker without beats for this long is lost."""


class Coordinator:
    """One replica. `run` until cancelled; it leads whenever the log elected it."""

    def __init__(
        self,
        events: EventLog,
        telemetry: EventLog,
        lease: LeaseStore,
        *,
        pool: str,
        name: str,
        options: CoordinatorOptions | None = None,
        clock: Clock | None = None,
        broker: Broker | None = None,
    ) -> None:
        self.name = check_name(name, "coordinator")
        self.options = options or CoordinatorOptions()
        self.events, self.telemetry = events, telemetry
        self.clock = clock or SystemClock()
        self.broker = broker
        self.fold = Fold(pool)
        self.subjects = self.fold.subjects
        self.durations = DurationsService(broker, self.subjects.durations)
        self.scheduler: Scheduler | None = None
        """Set while this coordinator leads."""
        self.liveness = Liveness(self.fold.pool, self.options.silence_ms)
        self.limits = Limits()
        self.hints = Hints(broker, self._connection_gone) if broker is not None else None
        self.incarnation = random_id(8)
        self.keeper = LeaseKeeper(
            lease, self.clock, f"{name}/{self.incarnation}", self.options.lease_ttl_ms,
            self._holder_gone, self._place,
        )  # fmt: skip
        self._nonce = ""
        self._alarmed: Exception | None = None
        self._wake = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits for the fold to reach a sequence."""
        self._gone_holders: set[str] = set()

    @classmethod
    def connected(
        cls, broker: Broker, pool: str, name: str, options: CoordinatorOptions | None = None
    ) -> Coordinator:
        """A coordinator over a NATS connection."""
        subjects = Fold(pool).subjects
        return cls(
            JetStreamLog(broker, subjects.log_stream),
            JetStreamLog(broker, subjects.telemetry_stream),
            JetStreamLease(broker, subjects.lease_bucket),
            pool=pool,
            name=name,
            options=options,
            broker=broker,
        )

    @property
    def leads(self) -> bool:
        """Whether the log elected this coordinator and nobody after it."""
        return self.scheduler is not None

    async def run(self) -> None:
        """Fold and compete for ever; releases the lease when cancelled.

        Raises `LogGap` and `FoldVersionError`: this process then must not go on.
        """
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._fold_log, name="fold")
                group.start_soon(self.keeper.watch, name="lease watch")
                group.start_soon(self._compete, name="compete")
                group.start_soon(self._lead, name="lead")
                group.start_soon(self._follow_beats, name="beats")
                group.start_soon(self._tick, name="tick")
                group.start_soon(self.durations.run, name="durations")
                if self.hints is not None:
                    group.start_soon(self.hints.run, name="hints")
        finally:
            self.scheduler = None
            gc.unfreeze()  # what was frozen after catching up may be freed with everything else
            with anyio.move_on_after(1.0, shield=True):
                await self.keeper.release()

    # -- folding -----------------------------------------------------------------------------------
    async def _fold_log(self) -> None:
        async with aclosing(self.events.read([], 0, name=f"coordinator_{self.name}")) as batches:
            async for messages in batches:
                self._fold(messages)
                self._wake.set()
                if self._waiting:
                    self._tell_folded()

    def _fold(self, messages: Sequence[Message]) -> None:
        now = self._now()
        for message in messages:
            judged = self.fold.apply(message)
            self.durations.observe(judged)
            if judged.subject is not None and judged.subject.kind == "leader":
                self._observe_election(judged, now)
            elif self.scheduler is not None:
                self.scheduler.observe(judged, now)
        if self.fold.error is not self._alarmed:
            self._alarmed = self.fold.error
            log.error("a bug of ours voided an event", exc_info=self._alarmed)

    def _observe_election(self, judged: Judged, now: float) -> None:
        for event, void in zip(judged.events, judged.voids, strict=False):
            if void or not isinstance(event, e.LeaderElected):
                continue
            if event.coordinator == self.name and event.nonce == self._nonce:
                log.info("leading pool %s, term %d", self.fold.pool.name, event.term)
                self.scheduler = Scheduler(self.fold.pool, self.subjects, now)
                self.limits = Limits()
                self.liveness.elected(judged.message.time_ns)
            elif self.scheduler is not None:
                log.info("deposed by %s, term %d", event.coordinator, event.term)
                self.scheduler = None

    async def _folded_to(self, sequence: int) -> None:
        if self.fold.pool.sequence < sequence:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((sequence, future))
            await future

    def _tell_folded(self) -> None:
        for sequence, future in self._waiting:
            if sequence <= self.fold.pool.sequence and not future.done():
                future.set_result(None)
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]

    # -- competing ---------------------------------------------------------------------------------
    async def _compete(self) -> None:
        while True:
            tail = await self._tail(self.events)
            await self._folded_to(tail)
            gc.freeze()  # what was folded so far lives long: collections need not look at it
            await self.keeper.acquire()
            async with anyio.create_task_group() as group:

                async def elect() -> None:
                    pause_s = RESEND_S
                    while self.keeper.held and not await self._elect():
                        log.warning("our claim to lead is void; again in %.1f s", pause_s)
                        await asyncio.sleep(pause_s)
                        pause_s = min(2 * pause_s, CLAIM_PAUSE_S_MAX)

                group.start_soon(elect, name="elect")
                await self.keeper.keep()
                group.cancel_scope.cancel()
            if self.scheduler is not None:
                log.info("lost the lease in term %d", self.scheduler.term)
                self.scheduler = None

    async def _tail(self, stream: EventLog) -> int:
        while True:
            try:
                return (await stream.tail()).last
            except LogUnavailable:
                await asyncio.sleep(RESEND_S)

    async def _elect(self) -> bool:
        """Append a claim to the next term and read it back; True when the log elected us."""
        self._nonce = new_nonce()
        claim = e.LeaderElected(
            term=self.fold.pool.term + 1, coordinator=self.name, nonce=self._nonce
        )
        data, message_id = join_batch([encode_event(claim)]), random_id(26)
        while self.keeper.held:
            try:
                stored = await self.events.append(self.subjects.leader, data, message_id)
            except LogUnavailable:
                await asyncio.sleep(RESEND_S)
                continue
            await self._folded_to(stored.sequence)
            return self.scheduler is not None
        return False

    def _place(self) -> str:
        """The connection as it is now: a reconnect or a restarted server makes it another one."""
        broker = self.broker
        return f"{broker.server_id or ''}/{broker.client_id or 0}" if broker is not None else "/0"

    def _holder_gone(self, holder: str) -> bool:
        """The holder's connection closed, or it was on the only server, in an earlier life of
        it."""
        if holder in self._gone_holders:
            return True
        parts = holder.split("/")
        if self.broker is None or len(parts) != 4 or not self.broker.connected:
            return False
        alone = not self.broker.clustered
        return alone and bool(parts[2]) and parts[2] != self.broker.server_id

    # -- leading -----------------------------------------------------------------------------------
    async def _lead(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            scheduler = self.scheduler
            if scheduler is None:
                continue
            wave = scheduler.decide(self._now())
            if wave:
                sender = WaveSender(self.events, wave, lambda s=scheduler: self.scheduler is s)  # type: ignore[misc]
                await sender.send()
                self._wake.set()

    # -- time and beats ----------------------------------------------------------------------------
    def _now(self) -> float:
        return self.clock.monotonic_ns() / 1e9

    async def _tick(self) -> None:
        beats = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            now = self._now()
            scheduler = self.scheduler
            if scheduler is None:
                continue
            due = scheduler.next_timer()
            if due is not None and due <= now:
                self._wake.set()
            if now - beats >= self.options.beat_ms / 1000:
                beats = now
                self._beat()
                self._check_limits(scheduler, now)

    def _beat(self) -> None:
        beat = e.Heartbeat(incarnation=self.incarnation, sequence=self.fold.pool.sequence)
        data = join_batch([encode_event(beat)])
        self.telemetry.append_soon(
            self.subjects.health(self.name), data, random_id(26), lambda _: None
        )

    def _check_limits(self, scheduler: Scheduler, now: float) -> None:
        overdue = self.limits.check(self.fold.pool, now)
        for token in overdue.kill:
            scheduler.kill(token)
        for worker, incarnation in overdue.disobeyed:
            scheduler.lose(worker, incarnation, "did not end an attempt past its limit")
        if overdue.kill or overdue.disobeyed:
            self._wake.set()

    async def _follow_beats(self) -> None:
        filters = [self.subjects.beat("*"), self.subjects.health(self.name)]
        start = await self._tail(self.telemetry)
        name = f"beats_{self.name}"
        async with aclosing(self.telemetry.read(filters, start, name=name)) as batches:
            async for messages in batches:
                for message in messages:
                    await self._take_beat(message)

    async def _take_beat(self, message: Message) -> None:
        kind, _, name = message.subject[len(self.subjects.prefix) :].partition(".")
        for event in decode_telemetry(message.data):
            if not isinstance(event, e.Heartbeat):
                continue
            if kind == "health" and event.incarnation == self.incarnation:
                for worker, incarnation in self.liveness.own_beat(message.time_ns):
                    self._lose(
                        worker, incarnation, f"no heartbeat for {self.options.silence_ms} ms"
                    )
            elif kind == "beat":
                suspects = self.liveness.beat(name, event, message.time_ns)
                if suspects and self.scheduler is not None:
                    await self._confirm_unreceived(suspects)

    async def _confirm_unreceived(self, tokens: list[str]) -> None:
        """Close attempts the worker does not know, once everything it could have said is folded."""
        try:
            tail = (await self.events.tail()).last
        except LogUnavailable:
            return
        await self._folded_to(tail)
        if self.scheduler is not None:
            for token in tokens:
                self.scheduler.close_unreceived(token)
            self._wake.set()

    def _lose(self, worker: str, incarnation: str, reason: str) -> None:
        if self.scheduler is not None:
            self.scheduler.lose(worker, incarnation, reason)
            self._wake.set()

    async def _connection_gone(self, connection: Connection, name: str) -> None:
        """The broker says a connection closed: a worker's, a coordinator's or nobody's we know."""
        holder = self.keeper.seen.holder
        if holder.endswith(f"/{connection.server_id}/{connection.client_id}"):
            self._gone_holders = {holder}
            self.keeper.nudge()
        found = self.liveness.disconnected(connection)
        if found is None or self.scheduler is None or self.hints is None:
            return
        if await self.hints.is_connected(name):
            return  # it came back by itself
        self._lose(*found, "its connection closed")
