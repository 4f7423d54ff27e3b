"""The adapters under test: each port's twin in memory and its real adapter, with the same handles
on the outside.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest
from dtf.core.adapters.blobs import JetStreamBlobs
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.lease import JetStreamLease
from dtf.core.adapters.memory import ManualClock, MemoryBlobs, MemoryLease, MemoryLog
from dtf.core.adapters.nats_client import Connection, connect
from dtf.core.ids import random_id
from dtf.core.ports import BlobStore, EventLog, LeaseStore
from dtf.core.server import EmbeddedServer
from dtf.core.setup import init_pool
from dtf.core.subjects import Subjects

SUBJECTS = Subjects("main")


class LogHarness(NamedTuple):
    """A log that holds one message, and what happens to it from outside."""

    log: EventLog
    purge_before: Callable[[int], Awaitable[None]]
    away: Callable[[], Awaitable[None]]
    back: Callable[[], Awaitable[None]]
    payload_max: int


class LeaseHarness(NamedTuple):
    store: LeaseStore
    seconds_pass: Callable[[int], None]
    """Real leases need no help to expire."""


class BlobHarness(NamedTuple):
    store: BlobStore
    corrupt: Callable[[str], Awaitable[None]]


@pytest.fixture(params=["memory", "jetstream"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[LogHarness]:
    if request.param == "memory":
        yield memory_log()
        return
    server: EmbeddedServer = await _started(request)
    connection = await connect(server.options("contract"))
    await init_pool(connection)
    yield jetstream_log(server, connection)
    await connection.aclose()
    await server.stop()


async def _started(request: pytest.FixtureRequest) -> EmbeddedServer:
    """Only the real half of a suite pays for a server."""
    directory = request.getfixturevalue("tmp_path") / "server"
    server = EmbeddedServer(directory, sync_always=False)
    await server.start()
    return server


def memory_log() -> LogHarness:
    log = MemoryLog(ManualClock(), subjects=SUBJECTS.log_subjects)
    log.write(SUBJECTS.pool_rulings, b"[]")

    async def purge_before(sequence: int) -> None:
        log.purge(sequence)

    async def away() -> None:
        log.offline = True

    async def back() -> None:
        log.offline = False

    return LogHarness(log, purge_before, away, back, 1024 * 1024)


def jetstream_log(server: EmbeddedServer, connection: Connection) -> LogHarness:
    stream = SUBJECTS.log_stream

    async def purge_before(sequence: int) -> None:
        await connection.api(f"STREAM.PURGE.{stream}", {"seq": sequence})

    async def away() -> None:
        await server.stop()

    async def back() -> None:
        await server.start()
        await connection.wait_connected()

    return LogHarness(
        JetStreamLog(connection, stream), purge_before, away, back, connection.payload_max
    )


@pytest.fixture(params=["memory", "jetstream"])
async def lease(request: pytest.FixtureRequest) -> AsyncIterator[LeaseHarness]:
    if request.param == "memory":
        clock = ManualClock()
        yield LeaseHarness(MemoryLease(clock), lambda s: clock.advance(s=s))
        return
    server = await _started(request)
    connection = await connect(server.options("contract"))
    await init_pool(connection)
    yield LeaseHarness(JetStreamLease(connection, SUBJECTS.lease_bucket), lambda s: None)
    await connection.aclose()
    await server.stop()


@pytest.fixture(params=["memory", "jetstream"])
async def blobs(request: pytest.FixtureRequest) -> AsyncIterator[BlobHarness]:
    if request.param == "memory":
        memory = MemoryBlobs()

        async def corrupt(digest: str) -> None:
            memory.stored[digest] = b"something else"

        yield BlobHarness(memory, corrupt)
        return
    server = await _started(request)
    connection = await connect(server.options("contract"))
    await init_pool(connection)
    store = JetStreamBlobs(connection, SUBJECTS.blob_bucket)

    async def corrupt_stored(digest: str) -> None:
        """The entry of `digest` now points to other chunks."""
        nuid = random_id(22)
        log = JetStreamLog(connection, store.stream)
        await log.append(f"$O.{store.bucket}.C.{nuid}", b"something else", random_id(26))
        entry = store._describe(digest, len(b"something else"), nuid)
        await log.append(store._entry_subject(digest), entry, random_id(26))

    yield BlobHarness(store, corrupt_stored)
    await connection.aclose()
    await server.stop()
