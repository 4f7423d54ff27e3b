"""The projector as a process, and rebuilding its file.

Rule: it ends cleanly on SIGTERM and Ctrl-C, and never takes a file from a projector that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio

from ..core.adapters.jetstream import JetStreamLog
from ..core.adapters.nats_client import connect
from ..core.loop import run_async
from ..core.ports import EventLog, Message
from ..core.subjects import Subjects
from .compare import differences, table_hashes
from .database import set_aside
from .errors import DatabaseBroken, DatabaseForeign
from .projector import Projector
from .queries import open_database_readonly
from .service import QueryService

if TYPE_CHECKING:
    from ..core.config import Config


async def serve(config: Config, database: Path) -> None:
    """Project and answer queries until SIGTERM or SIGINT; what was read is then in the file."""
    connection = await connect(config.nats_options("dtf-projector"))
    try:
        subjects = Subjects(config.pool)
        projector = Projector(
            JetStreamLog(connection, subjects.log_stream),
            JetStreamLog(connection, subjects.telemetry_stream),
            database,
            config.pool,
        )
        log.info("projecting pool %s into %s", config.pool, database)
        running = asyncio.create_task(_run(projector, QueryService(connection, projector)))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt
                loop.add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await connection.aclose()


async def _run(projector: Projector, service: QueryService) -> None:
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(service.run, name="queries")
            await projector.run()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def run_process(config: Config, database: Path) -> int:
    """Run the projector in this process until it is stopped; the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr
    )
    gc.set_threshold(GC_THRESHOLD, 50, 100)
    if hasattr(os, "nice"):
        os.nice(NICE)
    run_async(serve(config, database))
    return 0


log = logging.getLogger("dtf.projector")
NICE = 5
"""Whoever makes facts goes before whoever writes them down: a commit must not delay a task."""
GC_THRESHOLD = 100_000
"""Allocations between collections: rows wait by the ten thousand and make no cycles."""


class Rebuilt(NamedTuple):
    """What rebuilding found. `differing` is None where there was nothing to compare with."""

    position: int
    rows: int
    differing: list[str] | None


async def rebuild(event_log: EventLog, pool: str, database: Path) -> Rebuilt:
    """The file is made anew from the log, up to where the old one stood, and has taken its place.

    The old file, when rows differ, is kept aside. Raises as `Projector.run`, and `DatabaseBusy`
    while a projector holds the file.
    """
    end = (await event_log.tail()).last
    before = await asyncio.to_thread(_read_old, database)
    if before is not None:
        end = min(end, before[0])
    fresh = database.with_name(database.name + ".rebuild")
    await asyncio.to_thread(_remove, fresh)
    after = await _project_to(UpTo(event_log, end), pool, fresh, end)
    differing = None if before is None else differences(before[1], after)
    if before is None or differing:
        set_aside(database, "differs" if differing else "unread")
    await asyncio.to_thread(_remove, database)
    fresh.replace(database)
    rows = sum(int(told.partition(":")[0]) for told in after.values())
    return Rebuilt(end, rows, differing)


def _read_old(database: Path) -> tuple[int, dict[str, str]] | None:
    """(position, hashes) of a file; None where there is none that can be read."""
    if not database.exists():
        return None
    try:
        connection = open_database_readonly(database)
    except (DatabaseBroken, DatabaseForeign):
        return None
    try:
        rows = connection.execute("SELECT sequence FROM keep.position").fetchall()
        return int(rows[0][0]), table_hashes(connection)
    finally:
        connection.close()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(path.name + ".wal").unlink(missing_ok=True)


async def _project_to(event_log: EventLog, pool: str, path: Path, end: int) -> dict[str, str]:
    projector = Projector(event_log, None, path, pool)
    running = asyncio.create_task(projector.run())
    try:
        reached = asyncio.create_task(projector.reached(end))
        await asyncio.wait({running, reached}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            reached.cancel()
            await running
        with projector.reading() as cursor:
            return table_hashes(cursor)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


class UpTo:
    """A log that ends at a sequence; its readers wait there for ever. Reading only."""

    def __init__(self, event_log: EventLog, end: int) -> None:
        self._log = event_log
        self._end = end
        self.tail = event_log.tail
        self.get = event_log.get
        self.append = event_log.append
        self.append_soon = event_log.append_soon

    async def read(
        self, filters: Sequence[str], after: int, *, name: str = ""
    ) -> AsyncGenerator[list[Message]]:
        """See `EventLog.read`."""
        async with aclosing(self._log.read(filters, after, name=name)) as batches:
            async for batch in batches:
                wanted = [message for message in batch if message.sequence <= self._end]
                if wanted:
                    yield wanted
                if len(wanted) < len(batch):
                    break
        await anyio.sleep_forever()
