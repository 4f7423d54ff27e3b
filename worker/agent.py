"""The agent: joins a pool, does what it is assigned, tells what came of it. Rule: this shell
decides nothing.

`Machine` says what to do; `Workshop` and `InlineLane` do it; `GroupWriter` makes it durable. When
the server is away everything goes on: attempts run, results wait in the writer, the reader
continues where it stood.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import __version__
from ..core.codec import decode_batch, encode_batch
from ..core.events import Event, Heartbeat, WorkerDraining, WorkerJoined, WorkerLeft
from ..core.fold import SERVER_HEADERS
from ..core.ids import check_name, random_id
from ..core.model import Cause, Device, Verdict
from ..core.ports import Appended, BlobStore, EventLog, Message
from ..core.subjects import Subjects
from ..core.writer import GroupWriter
from .attempt import (
    RUNNING,
    Attempt,
    Ended,
    Exit,
    Instruction,
    Kill,
    Publish,
    Rejoin,
    Start,
    StartInline,
    TakeBack,
)
from .bundles import BundleCache
from .devices.detect import Detected, detect, hardware_classes
from .machine import Machine
from .options import WorkerOptions
from .processes import Processes
from .runners.inline import InlineLane, Result
from .workshop import Workshop

if TYPE_CHECKING:
    from ..core.adapters.nats_client import Connection

log = logging.getLogger("dtf.worker")
EXIT_OK, EXIT_SUPERSEDED = 0, 5
ANNOUNCE_S = 0.02
FLUSH_S = 30.0
"""How long a leaving agent waits for a server to take its last events."""
COMPANY_S = 0.02
"""How long an isolated attempt's events wait for others', while others run or wait here: many short
processes share messages, the last one's end is told at once."""
RUNS_MAX = 4096


class Links(NamedTuple):
    """What an agent reaches the pool through."""

    log: EventLog
    telemetry: EventLog
    output: EventLog
    blobs: BlobStore
    identity: Callable[[], tuple[str | None, int | None]] = lambda: (None, None)
    """(server id, client id) of the connection as it is now."""
    connected: Callable[[], bool] = lambda: True
    on_reconnect: list[Callable[[], None]] = []  # noqa: RUF012 (only read)


def links_of(connection: Connection, pool: str) -> Links:
    """The ports of a pool over one NATS connection."""
    from ..core.adapters.blobs import JetStreamBlobs
    from ..core.adapters.jetstream import JetStreamLog

    subjects = Subjects(pool)
    return Links(
        log=JetStreamLog(connection, subjects.log_stream),
        telemetry=JetStreamLog(connection, subjects.telemetry_stream),
        output=JetStreamLog(connection, subjects.output_stream),
        blobs=JetStreamBlobs(connection, subjects.blob_bucket),
        identity=lambda: (connection.server_id, connection.client_id),
        connected=lambda: connection.connected,
        on_reconnect=connection.on_reconnect,
    )


class Agent:
    """One worker. `run` once; `stop` from anywhere in the loop."""

    def __init__(
        self, connection: Connection | None, options: WorkerOptions, links: Links | None = None
    ) -> None:
        check_name(options.name, "worker")
        self.options = options
        self.subjects = Subjects(options.pool)
        if links is None:
            assert connection is not None
            links = links_of(connection, options.pool)
        self.links = links
        self.joined = asyncio.Event()
        """Set while an incarnation is in the log."""
        self.machine = Machine("", 0, 0)
        self._loop = asyncio.get_running_loop()
        self._writer = GroupWriter(links.log)
        self._processes = Processes()
        self._devices: dict[str, Device] = {}
        self._bundles = BundleCache(
            options.data_dir / "bundles", links.blobs, options.bundle_cache_bytes_max
        )
        self._shop = Workshop(
            options, self.subjects, self._processes, links.blobs, links.output,
            self._bundles, self._devices, self._carry_out,
        )  # fmt: skip
        self._lane = InlineLane(self._wake, self._bundles.here)
        self._woken = False
        self._ticking: asyncio.TimerHandle | None = None
        self._carrying = False
        self._run_subjects: dict[str, str] = {}
        self._over: asyncio.Future[Instruction | None] = self._loop.create_future()
        self._drain = ""
        self._drain_timer: asyncio.TimerHandle | None = None
        self._hard = False
        self._times = os.times()

    # -- life -------------------------------------------------------------------------------------
    async def run(self) -> int:
        """Works until stopped or superseded; the exit status. Leaves no process and no scratch
        file behind.
        """
        self._processes.start()
        self._shop.area.open()
        self.links.on_reconnect.append(self._beat)
        try:
            facts = await asyncio.to_thread(detect, ask_drivers=self.options.detect)
            while True:
                ended = await self._incarnate(facts)
                if not isinstance(ended, Rejoin):
                    break
                log.warning("declared lost (%s): joining anew", ended.reason)
            if isinstance(ended, Exit):
                log.error("%s", ended.reason)
            return EXIT_SUPERSEDED if isinstance(ended, Exit) else EXIT_OK
        finally:
            self.links.on_reconnect.remove(self._beat)
            await self._clean_up()

    def stop(self, drain: bool = True, reason: str = "stopped") -> None:
        """End: after running attempts have ended (drain), or at once. May be called again to be
        harder.
        """
        if not drain:
            self._hard = True
            self._finish(None)
            return
        if self._drain:
            return
        self._drain = reason
        self.machine.drain(f"draining: {reason}")
        if self.joined.is_set():
            event = WorkerDraining(incarnation=self.machine.incarnation, reason=reason[:256])
            self._writer.put(self.subjects.worker(self.options.name), event)
        if self.options.drain_timeout_s is not None:
            self._drain_timer = self._loop.call_later(
                self.options.drain_timeout_s, self.stop, False
            )
        self._carry_out()

    async def _incarnate(self, facts: Detected) -> Instruction | None:
        """Join, work, and end one incarnation; why it ended (None: stopped)."""
        incarnation = random_id(12)
        join = self._join(facts, incarnation)
        self._devices.clear()
        self._devices.update({device.id: device for device in join.devices})
        machine = self.machine = Machine(incarnation, join.cpu_milli, join.memory_bytes)
        machine.on_drained = self._carry_out
        self._over = self._loop.create_future()
        sequence = await self._put_and_wait(join)
        if sequence is None:
            return None
        if self._drain:
            machine.drain(f"draining: {self._drain}")
        where = (self.options.pool, self.options.name, incarnation, sequence)
        log.info("joined pool %s as %s (%s) at %d", *where)
        machine.sequence = sequence
        self.joined.set()
        reader = asyncio.create_task(self._read(machine, sequence), name="read assignments")
        beats = asyncio.create_task(self._beat_on(), name="heartbeat")
        try:
            self._carry_out()
            return await self._until_over(reader, beats)
        finally:
            self.joined.clear()
            for task in (reader, beats):
                task.cancel()
            await asyncio.gather(reader, beats, return_exceptions=True)
            self._lane.clear()
            await self._shop.kill_all()

    async def _until_over(self, *tasks: asyncio.Task[None]) -> Instruction | None:
        """Why the incarnation ended; raises when one of its tasks failed."""
        ends: list[asyncio.Future[Any]] = [self._over, *tasks]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        return await self._over

    def _join(self, facts: Detected, incarnation: str) -> WorkerJoined:
        options = self.options
        devices = [*facts.devices, *options.devices]
        server_id, client_id = self.links.identity()
        return WorkerJoined(
            incarnation=incarnation,
            hardware=hardware_classes(devices, options.hardware),
            cpu_milli=options.cpu_milli or facts.cpu_milli,
            memory_bytes=options.memory_bytes or facts.memory_bytes,
            devices=devices,
            labels=options.labels,
            prefetch=options.prefetch,
            platform=facts.platform,
            version=__version__,
            server_id=server_id,
            client_id=client_id,
        )

    async def _put_and_wait(self, event: Event) -> int | None:
        """The sequence the event of the worker was stored at; None when the agent was stopped
        before.
        """
        stored: asyncio.Future[int] = self._loop.create_future()

        def done(sequence: int, index: int) -> None:
            if not stored.done():
                stored.set_result(sequence)

        self._writer.put(self.subjects.worker(self.options.name), event, done)
        ends: list[asyncio.Future[Any]] = [stored, self._over]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return stored.result() if stored.done() else None

    async def _clean_up(self) -> None:
        """Say goodbye, send what is left as long as somebody takes it, and end every process."""
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        if self._ticking is not None:
            self._ticking.cancel()
        self._shop.stopping = True
        await self._shop.kill_all()
        if not self._lane.stop(0.2 if self._hard else 1.0):
            log.warning("an in-process task still runs; it ends with this process")
        await self._shop.close()
        await self._processes.close()
        try:
            async with asyncio.timeout(1.0 if self._hard else FLUSH_S):
                await self._writer.flushed()
        except TimeoutError:
            log.error("%d events could not be sent before leaving", self._writer.pending)
        await self._writer.aclose()

    def _finish(self, why: Instruction | None) -> None:
        if not self._over.done():
            if why is None and self.joined.is_set():
                left = WorkerLeft(
                    incarnation=self.machine.incarnation, reason=(self._drain or "stopped")[:256]
                )
                self._writer.put(self.subjects.worker(self.options.name), left)
            self.machine.abandon()
            self._over.set_result(why)

    # -- from the log -----------------------------------------------------------------------------
    async def _read(self, machine: Machine, after: int) -> None:
        """Every message for this worker goes to the machine, in log order."""
        name = self.options.name
        filters = [*self.subjects.follow_worker(name), self.subjects.worker(name)]
        consumer = f"w_{name}_{machine.incarnation}"
        async with aclosing(self.links.log.read(filters, after, name=consumer)) as batches:
            async for batch in batches:
                for message in batch:
                    if not _forged(message):
                        machine.read(message.sequence, decode_batch(message.data))
                self._carry_out()

    # -- carrying out -----------------------------------------------------------------------------
    def _carry_out(self) -> None:
        """Every instruction of the machine is on its way."""
        if self._carrying:
            return
        self._carrying = True
        machine = self.machine
        while machine.out:
            out, machine.out = machine.out, []
            for instruction in out:
                kind = type(instruction)
                if kind is Publish:
                    self._publish(instruction)  # type: ignore[arg-type]
                else:
                    self._act(machine, instruction)
        self._carrying = False
        if self._drain and self.joined.is_set() and not machine.attempts:
            self._finish(None)

    def _publish(self, instruction: Publish) -> None:
        attempt = instruction.attempt
        subject = self._run_subjects.get(attempt.run)
        if subject is None:
            if len(self._run_subjects) >= RUNS_MAX:
                self._run_subjects.clear()
            subject = self.subjects.attempt(self.options.name, attempt.run)
            self._run_subjects[attempt.run] = subject
        stored = attempt.stored if instruction.last else None
        company = not attempt.inline and self.machine.busy
        linger_s = COMPANY_S if company else 0.0
        self._writer.put(subject, instruction.event, stored, linger_s=linger_s)

    def _act(self, machine: Machine, instruction: Instruction) -> None:
        if isinstance(instruction, Start):
            self._shop.start(machine, instruction.attempt)
        elif isinstance(instruction, StartInline):
            self._start_inline(machine, instruction.attempts)
        elif isinstance(instruction, Kill):
            attempt = instruction.attempt
            if not attempt.inline:
                self._shop.kill(attempt)
            elif self._lane.take_back(attempt):
                machine.returned(attempt)
        elif isinstance(instruction, TakeBack):
            attempt = instruction.attempt
            if not attempt.inline:
                self._shop.take_back(attempt)
            elif self._lane.take_back(attempt):
                machine.returned(attempt)
        elif isinstance(instruction, Rejoin | Exit):
            self._finish(instruction)

    # -- in-process work --------------------------------------------------------------------------
    def _start_inline(self, machine: Machine, attempts: list[Attempt]) -> None:
        missing = {a.spec.bundle for a in attempts if a.spec.bundle} if attempts else set()
        missing = {digest for digest in missing if digest and not self._bundles.here(digest)}
        if missing:
            work = self._fetch_then_start(machine, attempts, missing)
            self._shop.spawn(work, "bundle for in-process tasks")
            return
        self._lane.start(attempts)
        if self._ticking is None:
            self._ticking = self._loop.call_later(ANNOUNCE_S, self._tick)

    async def _fetch_then_start(
        self, machine: Machine, attempts: list[Attempt], digests: set[str]
    ) -> None:
        """The attempts are in line once their code is here; it stays for the life of the agent."""
        for digest in digests:
            try:
                await self._bundles.take(digest)
            except (
                Exception
            ) as error:  # boundary: whatever hinders the bundle is the end of its attempts, told
                ended = Ended(
                    verdict=Verdict.ERROR,
                    cause=Cause.SETUP,
                    duration_us=0,
                    message=f"bundle {digest}: {error}"[:4096],
                )
                machine.finish_all([(a, ended) for a in attempts if a.spec.bundle == digest])
        waiting = [a for a in attempts if a.state == RUNNING]
        if waiting:
            self._start_inline(machine, waiting)
        self._carry_out()

    def _wake(self) -> None:
        """Called from the lane's thread: results wait."""
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._take_results)
            except RuntimeError:  # the loop is closed: the agent is gone
                return

    def _take_results(self) -> None:
        self._woken = False
        machine, results = self.machine, self._lane.results
        while results:
            result = results.popleft()
            if type(result) is tuple:
                attempt, duration_us, value = result
                attempt.machine.passed(attempt, duration_us, value)
            else:
                self._take_result(result)  # type: ignore[arg-type]
        machine.finish_all(())
        self._carry_out()

    def _take_result(self, result: Result) -> None:
        attempt = result.attempt
        if result.report is not None:
            for cases, measurements, truncated in result.report.take():
                attempt.machine.report(attempt, cases, measurements, truncated)
        attempt.machine.finish(attempt, result.ended)

    def _tick(self) -> None:
        """An in-process task that takes long is announced."""
        self._ticking = None
        current, since = self._lane.current, self._lane.current_since_ns
        if current is not None:
            if time.perf_counter_ns() - since > ANNOUNCE_S * 1e9 and not current.announced:
                self.machine.announce(current)
                self._carry_out()
            self._ticking = self._loop.call_later(ANNOUNCE_S, self._tick)

    # -- heartbeat --------------------------------------------------------------------------------
    async def _beat_on(self) -> None:
        while True:
            self._beat()
            await asyncio.sleep(self.options.beat_s)

    def _beat(self) -> None:
        """The pool hears that this agent lives and what it holds; lost without a server, never
        late.
        """
        if not self.joined.is_set() or not self.links.connected():
            return
        server_id, client_id = self.links.identity()
        beat = Heartbeat(
            incarnation=self.machine.incarnation,
            sequence=self.machine.sequence,
            held=self.machine.held(),
            running=self.machine.running,
            cpu_percent=self._cpu_percent(),
            memory_bytes=own_memory(),
            load1=os.getloadavg()[0],
            server_id=server_id,
            client_id=client_id,
        )
        self.links.telemetry.append_soon(
            self.subjects.beat(self.options.name), encode_batch([beat]), random_id(26), _ignore
        )

    def _cpu_percent(self) -> float | None:
        """CPU the agent and the processes it waited for used since the last beat, in percent of
        one core.
        """
        before, now = self._times, os.times()
        self._times = now
        elapsed = now.elapsed - before.elapsed
        return round(100 * (sum(now[:4]) - sum(before[:4])) / elapsed, 1) if elapsed > 0 else None


def _ignore(result: Appended | Exception) -> None:
    """A beat that was not stored is followed by the next one."""


def _forged(message: Message) -> bool:
    """The server itself wrote this message at somebody's request (protocol F5)."""
    headers = message.headers
    return bool(headers) and any(name.lower() in SERVER_HEADERS for name in headers or ())


def own_memory() -> int | None:
    """Memory this process occupies now, or None where that is not told."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


__all__ = ["Agent", "Links", "WorkerOptions", "links_of"]
