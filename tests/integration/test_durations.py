"""Durations from any coordinator: what workers reported comes back to whoever asks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dtf.coordinator.service import Coordinator
from dtf.core import events as e
from dtf.core.adapters.nats_client import connect
from dtf.core.client import Client
from dtf.core.codec import encode_batch
from dtf.core.config import load_config
from dtf.core.ids import random_id, run_id
from dtf.core.model import Case, TaskSpec, Verdict
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects

CASES = 6_000


async def test_what_was_reported_is_answered_whole(
    server: EmbeddedServer, pool: Subjects, tmp_path: Path
) -> None:
    """By a coordinator of two, in several messages; and by a later one from the log alone."""
    connection = await connect(server.options("test"))
    client = Client(connection, load_config({"publisher": "me"}, {}, tmp_path, tmp_path))
    spec = TaskSpec(runner="pytest", history="suite")
    run = run_id("me", "k")
    expected = {"t.py": {f"t.py::test_x[{n}]": n for n in range(CASES)}}

    async def put(subject: str, *events: e.Event) -> int:
        stored = await client.log.append(subject, encode_batch(events), random_id(26))
        return stored.sequence

    async def answers(coordinator: Coordinator, last: int) -> dict[str, dict[str, int]]:
        running = asyncio.create_task(coordinator.run())
        async with asyncio.timeout(20):
            await coordinator._folded_to(last)
            found = await client.durations("suite", "cpu")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return found

    try:
        assert await client.durations("suite", "cpu") == {}  # no coordinator
        await put(
            pool.worker("w"),
            e.WorkerJoined(incarnation="i", hardware=["cpu"], cpu_milli=1000, memory_bytes=2**30),
        )
        await put(
            pool.run("me", run),
            e.RunSubmitted(key="k"),
            e.TasksSubmitted(part=0, group="g", spec=spec, count=1),
            e.RunSealed(parts=1, tasks=1),
        )
        first = Coordinator.connected(connection, "main", "c1")
        running = asyncio.create_task(first.run())
        async with asyncio.timeout(20):
            while not (open_ := list(first.fold.pool.open)):
                await first._folded_to(first.fold.pool.sequence + 1)
        for number, begin in enumerate(range(0, CASES, 1000)):
            cases = [
                Case(id=f"t.py::test_x[{n}]", verdict=Verdict.PASSED, duration_us=n)
                for n in range(begin, begin + 1000)
            ]
            last = await put(
                pool.attempt("w", run), e.CasesReported(token=open_[0], n=number, cases=cases)
            )
        async with asyncio.timeout(20):
            await first._folded_to(last)
        assert await client.durations("suite", "cpu") == expected
        assert await client.durations("suite", "cuda") == {}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await answers(Coordinator.connected(connection, "main", "c2"), last) == expected
    finally:
        await connection.aclose()


async def test_what_is_no_request_gets_no_answer_and_harms_nobody(
    server: EmbeddedServer, pool: Subjects, tmp_path: Path
) -> None:
    connection = await connect(server.options("test"))
    client = Client(connection, load_config({"publisher": "me"}, {}, tmp_path, tmp_path))
    coordinator = Coordinator.connected(connection, "main", "c1")
    running = asyncio.create_task(coordinator.run())
    try:
        for data in (b"", b"\xff", b"[1]", b'{"history": 3}'):
            connection.send(pool.durations, data, connection.new_inbox())
        connection.send(pool.durations, b'{"history":"a","hardware":"cpu"}')  # nowhere to answer
        assert await client.durations("suite", "cpu") == {}
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await connection.aclose()
