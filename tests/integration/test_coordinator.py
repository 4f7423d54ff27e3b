"""The coordinator on a real server: one leader, takeover, lost workers, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress

from dtf.coordinator.service import Coordinator, CoordinatorOptions
from dtf.core import events as e
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.nats_client import Connection, connect
from dtf.core.codec import decode_batch, encode_batch
from dtf.core.fold import Fold
from dtf.core.ids import random_id, run_id
from dtf.core.model import TaskSpec, Verdict
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects

QUICK = CoordinatorOptions(lease_ttl_ms=1000, beat_ms=100, silence_ms=500)
SPEC = TaskSpec(runner="python", target="m:f", isolation="none")


class Reader:
    """A fold of the log that a test can wait on."""

    def __init__(self, log: JetStreamLog) -> None:
        self.log = log
        self.fold = Fold("main")
        self.changed = asyncio.Condition()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with aclosing(self.log.read([], 0)) as batches:
            async for messages in batches:
                async with self.changed:
                    for message in messages:
                        self.fold.apply(message)
                    self.changed.notify_all()

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(fact)

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class Worker:
    """An agent that runs nothing: it passes what it is assigned when it is told to `work`."""

    def __init__(self, connection: Connection, name: str, *, beats: bool = True) -> None:
        self.connection = connection
        self.name = name
        self.subjects = Subjects("main")
        self.log = JetStreamLog(connection, self.subjects.log_stream)
        self.telemetry = JetStreamLog(connection, self.subjects.telemetry_stream)
        self.incarnation = random_id(8)
        self.assigned: asyncio.Queue[e.TaskAssigned] = asyncio.Queue()
        self.beats = beats
        self.tasks: list[asyncio.Task[None]] = []

    async def join(self) -> None:
        joined = e.WorkerJoined(
            incarnation=self.incarnation,
            hardware=["cpu"],
            cpu_milli=1000,
            memory_bytes=2**33,
            server_id=self.connection.server_id,
            client_id=self.connection.client_id,
        )
        subject = self.subjects.worker(self.name)
        stored = await self.log.append(subject, encode_batch([joined]), random_id(26))
        self.tasks = [asyncio.create_task(self._listen(stored.sequence))]
        if self.beats:
            self.tasks.append(asyncio.create_task(self._beat()))

    async def _listen(self, after: int) -> None:
        filters = self.subjects.follow_worker(self.name)
        async with aclosing(self.log.read(filters, after)) as batches:
            async for messages in batches:
                for message in messages:
                    for event in decode_batch(message.data):
                        if isinstance(event, e.TaskAssigned):
                            self.assigned.put_nowait(event)

    async def _beat(self) -> None:
        while True:
            beat = e.Heartbeat(incarnation=self.incarnation)
            data = encode_batch([beat])
            with suppress(Exception):
                await self.telemetry.append(self.subjects.beat(self.name), data, random_id(26))
            await asyncio.sleep(0.1)

    async def finish(self, task: e.TaskAssigned) -> None:
        done = e.AttemptFinished(token=task.token, verdict=Verdict.PASSED, duration_us=1)
        subject = self.subjects.attempt(self.name, task.run)
        await self.log.append(subject, encode_batch([done]), random_id(26))

    async def work(self) -> None:
        while True:
            await self.finish(await self.assigned.get())

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def submit(log: JetStreamLog, key: str, count: int = 1) -> str:
    run = run_id("me", key)
    events: list[e.Event] = [
        e.RunSubmitted(key=key),
        e.TasksSubmitted(part=0, group="g", spec=SPEC, count=count),
        e.RunSealed(parts=1, tasks=count),
    ]
    await log.append(Subjects("main").run("me", run), encode_batch(events), random_id(26))
    return run


class Cast:
    """Everything a test started, ended in order."""

    def __init__(self, server: EmbeddedServer, pool: Subjects) -> None:
        self.server, self.pool = server, pool
        self.ends: list[Callable[[], object]] = []

    async def connect(self, name: str) -> Connection:
        connection = await connect(self.server.options(name))
        self.ends.append(connection.aclose)
        return connection

    async def reader(self) -> Reader:
        reader = Reader(JetStreamLog(await self.connect("reader"), self.pool.log_stream))
        self.ends.append(reader.stop)
        return reader

    async def worker(self, name: str, *, beats: bool = True) -> Worker:
        worker = Worker(await self.connect(f"worker-{name}"), name, beats=beats)
        await worker.join()
        self.ends.append(worker.stop)
        return worker

    async def coordinator(self, name: str) -> tuple[Coordinator, asyncio.Task[None]]:
        made = Coordinator.connected(await self.connect(name), "main", name, QUICK)
        task = asyncio.create_task(made.run())

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.ends.append(stop)
        return made, task

    async def __aenter__(self) -> Cast:
        return self

    async def __aexit__(self, *error: object) -> None:
        for end in reversed(self.ends):
            await end()  # type: ignore[misc]


async def test_a_run_goes_through(server: EmbeddedServer, pool: Subjects) -> None:
    async with Cast(server, pool) as cast:
        reader = await cast.reader()
        await cast.coordinator("c1")
        worker = await cast.worker("w")
        worker.tasks.append(asyncio.create_task(worker.work()))
        run = await submit(reader.log, "k", 300)
        await reader.until(
            lambda: run in reader.fold.pool.runs and bool(reader.fold.pool.runs[run].settled)
        )
        assert reader.fold.pool.runs[run].counts == {"passed": 300}
        assert not reader.fold.pool.voids


async def test_a_standby_takes_over_and_work_goes_on(
    server: EmbeddedServer, pool: Subjects
) -> None:
    async with Cast(server, pool) as cast:
        reader = await cast.reader()
        _, first = await cast.coordinator("c1")
        await reader.until(lambda: reader.fold.pool.coordinator == "c1")
        await cast.coordinator("c2")
        worker = await cast.worker("w")
        run = await submit(reader.log, "k", 2)
        task = await worker.assigned.get()
        first.cancel()
        await reader.until(lambda: reader.fold.pool.coordinator == "c2")
        await worker.finish(task)
        await worker.finish(await worker.assigned.get())
        await reader.until(lambda: bool(reader.fold.pool.runs[run].settled))
        assert reader.fold.pool.runs[run].counts == {"passed": 2}


async def test_a_crashed_leader_is_replaced_through_the_closed_connection(
    server: EmbeddedServer, pool: Subjects
) -> None:
    async with Cast(server, pool) as cast:
        reader = await cast.reader()
        leader, _ = await cast.coordinator("c1")
        await reader.until(lambda: reader.fold.pool.coordinator == "c1")
        await cast.coordinator("c2")
        assert leader.broker is not None
        await leader.broker.aclose()  # what a kill -9 looks like to the broker
        await reader.until(lambda: reader.fold.pool.coordinator == "c2")
        assert reader.fold.pool.term == 2


async def test_a_killed_worker_is_noticed_by_its_connection(
    server: EmbeddedServer, pool: Subjects
) -> None:
    async with Cast(server, pool) as cast:
        reader = await cast.reader()
        await cast.coordinator("c1")
        doomed = await cast.worker("w1")
        run = await submit(reader.log, "k")
        await doomed.assigned.get()
        heir = await cast.worker("w2")
        await doomed.stop()
        await doomed.connection.aclose()
        task = await heir.assigned.get()
        assert task.token.split(".")[1] == "2"
        await heir.finish(task)
        await reader.until(lambda: reader.fold.pool.runs[run].settled == "passed")
        assert reader.fold.pool.workers["w1"].ended == "lost"


async def test_a_silent_worker_is_lost_and_its_late_result_changes_nothing(
    server: EmbeddedServer, pool: Subjects
) -> None:
    async with Cast(server, pool) as cast:
        reader = await cast.reader()
        await cast.coordinator("c1")
        frozen = await cast.worker("w1", beats=False)
        run = await submit(reader.log, "k")
        late = await frozen.assigned.get()
        heir = await cast.worker("w2")
        task = await heir.assigned.get()
        await frozen.finish(late)
        await heir.finish(task)
        await reader.until(lambda: reader.fold.pool.runs[run].settled == "passed")
        assert reader.fold.pool.voids == {"attempt_closed": 1}


async def test_a_server_restart_loses_nothing(server: EmbeddedServer, pool: Subjects) -> None:
    async with Cast(server, pool) as cast:
        reader = await cast.reader()
        await cast.coordinator("c1")
        worker = await cast.worker("w")
        run = await submit(reader.log, "k", 3)
        task = await worker.assigned.get()
        await server.restart()
        await worker.connection.wait_connected()
        await worker.finish(task)
        worker.tasks.append(asyncio.create_task(worker.work()))
        await reader.until(lambda: bool(reader.fold.pool.runs[run].settled))
        assert reader.fold.pool.runs[run].counts == {"passed": 3}


async def test_garbage_on_every_subject_stops_nobody(
    server: EmbeddedServer, pool: Subjects
) -> None:
    async with Cast(server, pool) as cast:
        reader = await cast.reader()
        await cast.coordinator("c1")
        worker = await cast.worker("w")
        rogue = JetStreamLog(await cast.connect("rogue"), pool.log_stream)
        kinds = ["run.x.y", "assign.cpu.w", "attempt.w.r", "worker.w", "ruling.r", "pool", "leader"]
        for kind in kinds:
            for junk in (b"\xff\x00", b"[1,2", b'[{"type":"Nope"},{}]', b"null", b"[" * 2000):
                await rogue.append(f"dtf.main.{kind}", junk, random_id(26))
        worker.tasks.append(asyncio.create_task(worker.work()))
        run = await submit(reader.log, "k", 5)
        await reader.until(
            lambda: run in reader.fold.pool.runs and bool(reader.fold.pool.runs[run].settled)
        )
        assert reader.fold.pool.runs[run].settled == "passed"
