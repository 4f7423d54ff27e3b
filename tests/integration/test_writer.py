"""Group commit and reading against a real server that dies in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.nats_client import Connection, connect
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects
from dtf.core.writer import GroupWriter


@asynccontextmanager
async def reading(
    server: EmbeddedServer, pool: Subjects, into: dict[str, list[int]], total: int
) -> AsyncIterator[asyncio.Future[None]]:
    """Another process's view: event numbers by subject as they arrive; done when `total` are in."""
    connection = await connect(server.options("reader"))
    log = JetStreamLog(connection, pool.log_stream)

    async def read() -> None:
        last = 1
        async with aclosing(log.read([], last)) as batches:
            async for batch in batches:
                for message in batch:
                    assert message.sequence == last + 1, "neither gap nor repeat"
                    last = message.sequence
                    into.setdefault(message.subject, []).extend(msgspec.json.decode(message.data))
                if sum(map(len, into.values())) >= total:
                    return

    task = asyncio.ensure_future(read())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await connection.aclose()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_every_event_is_stored_once_and_in_order_though_the_server_dies_in_between(
    server: EmbeddedServer, connection: Connection, pool: Subjects, how: str
) -> None:
    subjects, each, deaths = [pool.attempt(f"w{i}", "r") for i in range(4)], 5000, 3
    writer = GroupWriter(JetStreamLog(connection, pool.log_stream), events_max=50)
    found: dict[str, list[int]] = {}
    positions: dict[str, list[tuple[int, int]]] = {subject: [] for subject in subjects}
    async with (
        asyncio.timeout(120),
        reading(server, pool, found, each * len(subjects)) as read,
    ):
        for number in range(each):
            for subject in subjects:
                told = positions[subject]
                writer.put_encoded(subject, b"%d" % number, lambda s, i, t=told: t.append((s, i)))
            await writer.room(400)
            if number % (each // (deaths + 1)) == each // (deaths + 1) - 1 and number < each - 1:
                await die(server, how)
        await writer.flushed()
        await read
    await writer.aclose()
    for subject in subjects:
        assert found[subject] == list(range(each))
        assert positions[subject] == sorted(set(positions[subject]))
        assert len(positions[subject]) == each


async def die(server: EmbeddedServer, how: str) -> None:
    """The server is gone with messages on their way, and back on the same data."""
    if how == "killed":
        server.kill()
    else:
        await server.stop()
    await server.start()
