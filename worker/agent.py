"""The agent: joins a pool, does what it is assigned, tells what came of it. Rule: this shell
decides nothing.

`Machine` says what to do; `Workshop` and `InlineWork` do it; `GroupWriter` makes it durable. When
the server is away everything goes on: attempts run, results wait in the writer, the reader
continues where it stood.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..core.codec import decode_batch
from ..core.events import Event, WorkerDraining, WorkerJoined, WorkerLeft
from ..core.exit_codes import ExitCode
from ..core.fold import SERVER_HEADERS
from ..core.ids import check_name, random_id
from ..core.model import Device
from ..core.ports import Message
from ..core.subjects import Subjects
from ..core.writer import GroupWriter
from .attempt import (
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
from .devices.detect import Detected, detect, hardware_classes, with_declared
from .heartbeat import Heart
from .inline_work import InlineWork
from .links import Links, links_of
from .machine import Machine
from .options import WorkerOptions
from .processes import Processes
from .workshop import Workshop

if TYPE_CHECKING:
    from ..core.adapters.nats_client import Connection

log = logging.getLogger("dtf.worker")
FLUSH_S = 30.0
"""How long a leaving agent waits for a server to take the ends of its attempts."""
GOODBYE_S = 2.0
"""The same, when there is nothing to tell but that it leaves."""
COMPANY_S = 0.02
"""How long an isolated attempt's events wait for others', while others run or wait here: many short
processes share messages, the last one's end is told at once."""
RUNS_MAX = 4096


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
        self._inline = InlineWork(self._bundles, self._carry_out)
        beat = self.subjects.beat(options.name)
        self._heart = Heart(links, beat, options.beat_s, self._joined_machine)
        self._carrying = False
        self._run_subjects: dict[str, str] = {}
        self._over: asyncio.Future[Instruction | None] = self._loop.create_future()
        self._drain = ""
        self._drain_timer: asyncio.TimerHandle | None = None
        self._hard = False
        self._owing = False
        """Ends of attempts were not stored when it stopped."""

    # -- life -------------------------------------------------------------------------------------
    async def run(self) -> int:
        """Works until stopped or superseded; the exit status. Leaves no process and no scratch
        file behind.
        """
        self._processes.start()
        self._shop.area.open()
        self.links.on_reconnect.append(self._heart.beat)
        try:
            facts = await asyncio.to_thread(detect, ask_drivers=self.options.detect)
            while True:
                ended = await self._incarnate(facts)
                if not isinstance(ended, Rejoin):
                    break
                log.warning("declared lost (%s): joining anew", ended.reason)
            if isinstance(ended, Exit):
                log.error("%s", ended.reason)
            return ExitCode.FAILED if isinstance(ended, Exit) else ExitCode.PASSED
        finally:
            self.links.on_reconnect.remove(self._heart.beat)
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
        if not self.joined.is_set():
            self._finish(None)
            return
        self.machine.drain(f"draining: {reason}")
        event = WorkerDraining(incarnation=self.machine.incarnation, reason=reason[:256])
        self._writer.put(self.subjects.worker(self.options.name), event)
        if self.options.drain_timeout_s is not None:
            self._drain_timer = self._loop.call_later(
                self.options.drain_timeout_s, self.stop, False
            )
        self._carry_out()

    def _joined_machine(self) -> Machine | None:
        return self.machine if self.joined.is_set() else None

    async def _incarnate(self, facts: Detected) -> Instruction | None:
        """Join, work, and end one incarnation; why it ended (None: stopped)."""
        if self._drain or self._hard:
            return None
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
        where = (self.options.pool, self.options.name, incarnation, sequence)
        log.info("joined pool %s as %s (%s) at %d", *where)
        machine.sequence = sequence
        self.joined.set()
        reader = asyncio.create_task(self._read(machine, sequence), name="read assignments")
        beats = asyncio.create_task(self._heart.run(), name="heartbeat")
        try:
            self._carry_out()
            return await self._until_over(reader, beats)
        finally:
            self.joined.clear()
            for task in (reader, beats):
                task.cancel()
            await asyncio.gather(reader, beats, return_exceptions=True)
            self._inline.clear()
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
        devices = with_declared([*facts.devices, *options.devices], options.hardware)
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
        self._shop.stopping = True
        await self._shop.kill_all()
        if not self._inline.stop(0.2 if self._hard else 1.0):
            log.warning("an in-process task still runs; it ends with this process")
        await self._shop.close()
        await self._processes.close()
        try:
            async with asyncio.timeout(FLUSH_S if self._owing and not self._hard else GOODBYE_S):
                await self._writer.flushed()
        except TimeoutError:
            log.error("%d events could not be sent before leaving", self._writer.pending)
        await self._writer.aclose()

    def _finish(self, why: Instruction | None) -> None:
        if not self._over.done():
            if why is None and self.machine.incarnation:
                left = WorkerLeft(
                    incarnation=self.machine.incarnation, reason=(self._drain or "stopped")[:256]
                )
                self._writer.put(self.subjects.worker(self.options.name), left)
            self._owing = bool(self.machine.attempts)
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
            self._inline.start(machine, instruction.attempts)
        elif isinstance(instruction, Kill | TakeBack):
            attempt = instruction.attempt
            if attempt.inline:
                self._inline.take_back(machine, attempt)
            elif isinstance(instruction, Kill):
                self._shop.kill(attempt)
            else:
                self._shop.take_back(attempt)
        elif isinstance(instruction, Rejoin | Exit):
            self._finish(instruction)


def _forged(message: Message) -> bool:
    """The server itself wrote this message at somebody's request (protocol F5)."""
    headers = message.headers
    return bool(headers) and any(name.lower() in SERVER_HEADERS for name in headers or ())


__all__ = ["Agent", "Links", "WorkerOptions", "links_of"]
