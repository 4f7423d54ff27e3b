"""The log by itself: one event's way, group commit, and reading back. All of it synced to disk."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.adapters.jetstream import JetStreamLog
from ..core.adapters.nats_client import Connection, connect
from ..core.ids import random_id
from ..core.ports import Appended
from ..core.server import EmbeddedServer
from ..core.setup import init_pool
from ..core.subjects import Subjects
from ..core.writer import GroupWriter
from .figures import Figure, at_least, quantile, times

SUBJECTS = Subjects("main")
EVENT = b'{"type":"AttemptFinished","token":"%b","verdict":"passed","duration_us":12345}' % (
    b"x" * 40
)


async def _round_trips(connection: Connection, count: int) -> float:
    """Median seconds of a PING."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        await connection.nc.flush()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


async def _appends(log: JetStreamLog, count: int) -> list[float]:
    """Seconds of each append on an idle log."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        await log.append(SUBJECTS.leader, b"[]", random_id(26))
        taken.append(time.perf_counter() - started)
    return taken


async def _group_commit(log: JetStreamLog, events: int) -> float:
    """Durable events a second of one writer on one subject, with at most 5,000 waiting."""
    writer = GroupWriter(log)
    started = time.perf_counter()
    for number in range(events):
        writer.put_encoded(SUBJECTS.attempt("w", "r"), EVENT)
        if number % 500 == 0:
            await writer.room(5000)
    await writer.flushed()
    taken = time.perf_counter() - started
    await writer.aclose()
    return events / taken


async def _fill(log: JetStreamLog, messages: int) -> int:
    """Single-event messages, 500 at a time on their way; the log's last sequence."""
    for _ in range(messages // 500):
        done, left = asyncio.get_running_loop().create_future(), 500

        def stored(result: Appended | Exception, done: asyncio.Future[None] = done) -> None:
            nonlocal left
            left -= 1
            if isinstance(result, Exception):
                done.set_exception(result)
            elif not left:
                done.set_result(None)

        for _ in range(500):
            log.append_soon(SUBJECTS.leader, EVENT, random_id(26), stored, timeout=30)
        await done
    return (await log.tail()).last


async def _read(log: JetStreamLog, last: int) -> float:
    """Messages a second from the first to the last."""
    started = time.perf_counter()
    async with aclosing(log.read([], 0)) as batches:
        async for batch in batches:
            if batch[-1].sequence >= last:
                break
    return last / (time.perf_counter() - started)


async def measure_log(rounds: int) -> list[Figure]:
    """What every hop through the log costs."""
    hops: list[tuple[float, float]] = []
    late, commits, reads = [], [], []
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        async with EmbeddedServer(Path(scratch)) as server:
            connection = await connect(server.options("bench"))
            await init_pool(connection)
            log = JetStreamLog(connection, SUBJECTS.log_stream)
            for _ in range(rounds):
                ping = await _round_trips(connection, 200)
                taken = await _appends(log, 400)
                hops.append((statistics.median(taken) * 1000, ping * 1000))
                late.append(quantile(taken, 0.99) * 1000)
                commits.append(await _group_commit(log, 100_000))
            last = await _fill(log, 50_000)
            reads = [await _read(log, last) for _ in range(rounds)]
            await connection.aclose()
    note = f"p99 {statistics.median(late):.2f} ms"
    return [
        times("append, idle, synced", hops, "ms", "PING", 6, lower=True, note=note),
        at_least("group commit, one subject", statistics.median(commits), "events/s", 60_000),
        at_least("read single-event messages", statistics.median(reads), "msg/s", 60_000),
    ]
