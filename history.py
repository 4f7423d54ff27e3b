"""The history of a local pool: projector and query service, started when they disturb nobody.

Rule: whoever asks is answered; a query that comes before the projector runs starts it and waits.

Importing DuckDB and opening its file takes as long as everything else of a pool's start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from .core.adapters.nats_client import Connection
    from .core.config import Config
    from .projections.projector import Projector

IDLE_S = 0.3
"""How long nobody has used a run before the projector starts."""
LATEST_S = 5.0
"""It starts by then, whatever runs."""
LOOK_S = 0.1
WAITING_MAX = 64


class History:
    """Projector and query service of the pool on one data directory."""

    def __init__(self, config: Config, connection: Connection, idle: Callable[[], bool]) -> None:
        self._config = config
        self._connection = connection
        self._idle = idle
        self._wanted = asyncio.Event()
        self._running = asyncio.Event()
        self._projector: Projector | None = None
        self._early: list[tuple[str, str, bytes]] = []
        """Queries that came before the query service."""

    async def run(self) -> None:
        """Start when idle, when asked or at the latest after a while; project until cancelled."""
        from .core.subjects import Subjects

        subject = Subjects(self._config.pool).query
        listening = self._connection.listen(subject, self._keep, queue="query")
        try:
            await self._until_due()
            await anyio.to_thread.run_sync(_import)
        except BaseException:
            self._connection.unlisten(listening)
            raise
        await self._serve(listening)

    async def reached(self, sequence: int) -> None:
        """The projector has written everything up to that event of the log."""
        self._wanted.set()
        await self._running.wait()
        assert self._projector is not None
        await self._projector.reached(sequence)

    def _keep(self, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """From the parser: nothing may be raised here."""
        if reply and len(self._early) < WAITING_MAX:
            self._early.append((subject.decode(), reply.decode(), data))
        self._wanted.set()

    async def _until_due(self) -> None:
        clock = asyncio.get_running_loop().time
        begun = busy = clock()
        while not self._wanted.is_set():
            now = clock()
            if not self._idle():
                busy = now
            if now - busy >= IDLE_S or now - begun >= LATEST_S:
                return
            with anyio.move_on_after(LOOK_S):
                await self._wanted.wait()

    async def _serve(self, listening: int) -> None:
        from .core.adapters.jetstream import JetStreamLog
        from .core.subjects import Subjects
        from .projections.database import database_path
        from .projections.projector import Projector
        from .projections.service import QueryService

        config, subjects = self._config, Subjects(self._config.pool)
        log = JetStreamLog(self._connection, subjects.log_stream)
        telemetry = JetStreamLog(self._connection, subjects.telemetry_stream)
        database = database_path(config.data_dir, config.pool, local=True)
        self._projector = Projector(log, telemetry, database, config.pool)
        async with anyio.create_task_group() as group:
            group.start_soon(self._projector.run, name="projector")
            service = QueryService(self._connection, self._projector)
            group.start_soon(service.run, name="queries")
            await service.listening.wait()
            self._connection.unlisten(listening)
            for query in self._early:
                subject, reply, data = query
                self._connection.send(subject, data, reply)
            self._early.clear()
            self._running.set()


def _import() -> None:
    """In a thread: the loop goes on with other work meanwhile."""
    from .projections import projector, service  # noqa: F401
