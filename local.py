"""A whole pool inside one process: server, coordinator, projector, and workers as its children.

Rule: whoever starts it ends all of it, and leaves nothing behind but the data directory.

Two commands on one data directory share the pool of the first; the owner waits for the others
before it closes. The same code against `--server` needs nothing of this file.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import msgspec
from cyclopts import Parameter

from .core.children import Process, end, spawn
from .core.errors import DtfError, ServerUnavailable
from .core.pool_file import (
    POOL_FILE,
    PoolFile,
    find_pool_file,
    remove_pool_file,
    write_pool_file,
)
from .core.pool_lock import PoolLock
from .core.session import current
from .tui.console import say, warn
from .tui.formats import plural
from .tui.interrupts import on_signals
from .tui.sizing import share_of, worker_count

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .core.adapters.jetstream import JetStreamLog
    from .core.adapters.nats_client import Connection
    from .core.client import Client
    from .core.config import Config
    from .core.server import EmbeddedServer
    from .projections.projector import Projector

ENTER_LIMIT_S = 60.0
JOIN_LIMIT_S = 30.0
CATCH_UP_LIMIT_S = 20.0
DRAIN_S = 0.5
"""What workers still run when the pool closes belongs to no command any more."""
GRACE_S = 3.0
LOOK_S = 0.05
SERVER_LOOK_S = 0.5
RESTARTS_MAX = 3
"""Restarts of one worker in a pool's life; one that dies more often has a cause to be found."""


@asynccontextmanager
async def open_pool(
    *,
    workers: int | None = None,
    cpu_milli: int = 0,
    memory_bytes: int = 0,
    reading: bool = False,
) -> AsyncIterator[Client]:
    """A client of the configured server, or of the pool on this machine, started if need be.

    `cpu_milli` and `memory_bytes` are what the largest task needs, so that it fits some worker.
    `reading`: a pool that does not run is not started, only its server, so that nothing changes.
    """
    from .core.client import open_client

    config = current().config
    async with AsyncExitStack() as stack:
        if config.server is None:
            wanted = workers if workers is not None else config.workers
            count = 0 if reading else worker_count(wanted, cpu_milli, memory_bytes)
            if not reading and find_pool_file(config.data_dir) is None:
                say(f"Starting {plural(count, 'worker')} on this machine ...", style="dim")
            pool = local_pool(config, workers=count, reading=reading)
            found = await stack.enter_async_context(pool)
            config = msgspec.structs.replace(
                config, server=found.url, user=found.user, password=found.password
            )
        yield await stack.enter_async_context(open_client(config))


@asynccontextmanager
async def local_pool(
    config: Config,
    *,
    workers: int,
    port: int | None = None,
    share: bool = True,
    reading: bool = False,
) -> AsyncIterator[PoolFile]:
    """The local pool of the data directory runs: ours, or with `share` another process's.

    Raises `ServerUnavailable` when another owns it and does not let us in.
    """
    lock = PoolLock(config.data_dir)
    try:
        found = await _enter(lock, config.data_dir, share=share, reading=reading)
        if found is not None:
            yield found
            return
        async with _own_server(config, port, announced=not reading) as (mine, connection):
            if reading:
                yield mine
                return
            async with _own_pool(config, lock, connection, workers):
                yield mine
    finally:
        lock.close()


async def _enter(lock: PoolLock, data_dir: Path, *, share: bool, reading: bool) -> PoolFile | None:
    """None when this process may start the pool (or its server); else the running pool, which now
    waits for us.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + ENTER_LIMIT_S
    while not (lock.read() and lock.seal() if reading else lock.own()):
        found = find_pool_file(data_dir)
        if not share and found is not None:
            raise ServerUnavailable(
                f"a pool runs on {data_dir} already at {found.url} (process {found.pid})",
                remedy="Use that one (`dtf status`), or name another --data-dir.",
            )
        if share and found is not None and lock.share():
            return found
        if clock() > deadline:
            raise ServerUnavailable(
                f"another dtf holds {data_dir}, but no pool answers there",
                remedy="End that process, or name another --data-dir.",
            )
        await asyncio.sleep(LOOK_S)
    if not reading:
        _clear(data_dir)
    return None


def _clear(data_dir: Path) -> None:
    """Nothing is left of an owner that was killed, and git does not see the directory."""
    (data_dir / POOL_FILE).unlink(missing_ok=True)
    ignore = data_dir / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")  # the history of a project is no part of its working tree


@asynccontextmanager
async def _own_server(
    config: Config, port: int | None, *, announced: bool
) -> AsyncIterator[tuple[PoolFile, Connection]]:
    """The server runs with the pool's log on it; others find it when it is `announced`."""
    from .core.adapters.nats_client import connect
    from .core.server import EmbeddedServer
    from .core.setup import init_pool

    async with EmbeddedServer(config.data_dir / "server", port=port) as server:
        connection = await connect(server.options("dtf-local"))
        try:
            await init_pool(connection, config.pool)
            found = PoolFile(
                url=server.url,
                user=server.user,
                password=server.password,
                pid=os.getpid(),
                started=time.time(),
            )
            if announced:
                write_pool_file(config.data_dir, found)
            async with anyio.create_task_group() as group:
                group.start_soon(_keep_server, server, name="server")
                yield found, connection
                group.cancel_scope.cancel()
        finally:
            remove_pool_file(config.data_dir, os.getpid())
            await connection.aclose()


async def _keep_server(server: EmbeddedServer) -> None:
    """A server that was killed is started again on its data and port; everyone reconnects."""
    while True:
        await asyncio.sleep(SERVER_LOOK_S)
        if server.pid is None:
            warn("the server ended by itself; starting it again on the same data")
            await server.start()


@asynccontextmanager
async def _own_pool(
    config: Config, lock: PoolLock, connection: Connection, workers: int
) -> AsyncIterator[None]:
    """Every part started in order, stopped in the opposite order."""
    async with _services(config, connection, workers) as services:
        try:
            yield
        except Exception:
            await _leave(lock, services)
            raise
        await _leave(lock, services)


async def _leave(lock: PoolLock, services: Services) -> None:
    """Nobody else uses the pool, its workers have left, and its history is complete."""
    told = False
    while not lock.seal():
        if not told:
            told = True
            say("Another dtf uses this pool; waiting for it (Ctrl-C ends both).", style="dim")
        await asyncio.sleep(4 * LOOK_S)
    await services.close()


@asynccontextmanager
async def _services(
    config: Config, connection: Connection, workers: int
) -> AsyncIterator[Services]:
    """Coordinator, projector, query service and workers run; cancelled and killed at the end."""
    async with anyio.create_task_group() as group:
        services = Services(config, connection, workers)
        try:
            await services.start(group)
            yield services
        finally:
            with anyio.CancelScope(shield=True):
                services.closing = True
                await end(services.children, 0, 0)
            group.cancel_scope.cancel()


class Services:
    """What runs beside the server."""

    def __init__(self, config: Config, connection: Connection, workers: int) -> None:
        self.config = config
        self.connection = connection
        self.workers = workers
        self.children: list[Process] = []
        self.closing = False
        self._projector: Projector | None = None
        self._awaited: set[str] = set()
        """Workers that have not joined yet."""

    async def start(self, group: TaskGroup) -> None:
        """A leader decides, the projector writes, every worker has joined."""
        from .coordinator.process import GC_THRESHOLD
        from .coordinator.service import Coordinator
        from .core.adapters.jetstream import JetStreamLog
        from .core.subjects import Subjects
        from .projections.database import database_path
        from .projections.projector import Projector
        from .projections.service import QueryService

        gc.set_threshold(GC_THRESHOLD, 50, 100)
        subjects = Subjects(self.config.pool)
        log = JetStreamLog(self.connection, subjects.log_stream)
        telemetry = JetStreamLog(self.connection, subjects.telemetry_stream)
        before = (await log.tail()).last
        coordinator = Coordinator.connected(self.connection, self.config.pool, "local")
        group.start_soon(coordinator.run, name="coordinator")
        database = database_path(self.config.data_dir, self.config.pool, local=True)
        self._projector = Projector(log, telemetry, database, self.config.pool)
        group.start_soon(self._projector.run, name="projector")
        queries = QueryService(self.connection, self._projector)
        group.start_soon(queries.run, name="queries")
        names = [f"{self.config.worker[:60]}-{number + 1}" for number in range(self.workers)]
        self._awaited = set(names)
        for name in names:
            group.start_soon(self._keep_worker, name, name == names[0], name=f"worker {name}")
        await self._joined(log, subjects.worker("*"), before)

    async def close(self) -> None:
        """Workers have left in order, and the history holds everything up to now."""
        self.closing = True
        await end(self.children, DRAIN_S, GRACE_S)
        await self._caught_up()

    async def _joined(self, log: JetStreamLog, subject: str, after: int) -> None:
        """Every awaited worker has joined after `after`; raises when one does not in time."""
        if not self._awaited:
            return
        with anyio.move_on_after(JOIN_LIMIT_S):
            async with aclosing(log.read([subject], after, name="dtf-local")) as batches:
                async for messages in batches:
                    self._awaited -= {each.subject.rpartition(".")[2] for each in messages}
                    if not self._awaited:
                        return
        raise DtfError(
            f"workers {', '.join(sorted(self._awaited))} did not start within {JOIN_LIMIT_S:.0f} s",
            remedy=f"Read their logs in {self.config.data_dir / 'workers'}.",
        )

    async def _keep_worker(self, name: str, detect: bool) -> None:
        """The worker runs; started again when it dies by itself, some times.

        Raises `DtfError` when it could never join; without one of several workers a pool goes on.
        """
        home = self.config.data_dir / "workers" / name
        argv, env = worker_command(self.config, name, self.workers, detect=detect)
        log_file = home.with_suffix(".log")
        for attempt in range(RESTARTS_MAX + 1):
            process = await spawn(argv, env, home, log_file)
            self.children.append(process)
            code = await process.wait()
            if self.closing:
                return
            self.children.remove(process)
            if attempt < RESTARTS_MAX and name not in self._awaited:
                warn(f"worker {name} ended with {code} and is started again; see {log_file}")
            await asyncio.sleep(0.1 * 2**attempt)
        if name in self._awaited:
            raise DtfError(
                f"worker {name} does not start: {_last_line(log_file)}", remedy=f"See {log_file}."
            )
        warn(f"worker {name} ended {RESTARTS_MAX + 1} times; it is not started again")

    async def _caught_up(self) -> None:
        """The projector has written the last event of the log, or its time is up."""
        from .core.adapters.jetstream import JetStreamLog
        from .core.subjects import Subjects

        log = JetStreamLog(self.connection, Subjects(self.config.pool).log_stream)
        last = (await log.tail()).last
        if self._projector is not None:
            with anyio.move_on_after(CATCH_UP_LIMIT_S):
                await self._projector.reached(last)


def _last_line(file: Path) -> str:
    """What a process said last."""
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


def worker_command(
    config: Config, name: str, workers: int, *, detect: bool
) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of one worker of the local pool, with its share of the machine.

    Accelerators are detected by one of the workers only: a device belongs to one agent.
    """
    cpu_milli, memory = share_of(workers)
    argv = [sys.executable, "-m", "dtf.worker", "run", "--name", name]
    argv += ["--cpus", f"{cpu_milli / 1000:g}", "--memory", str(memory)]
    argv += [] if detect else ["--no-detect"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("DTF_")}
    kept = ("DTF_NATS_SERVER", "DTF_TRACE")
    env |= {key: os.environ[key] for key in kept if key in os.environ}
    env |= {
        "DTF_SERVER": "local",
        "DTF_DATA_DIR": str(config.data_dir),
        "DTF_POOL": config.pool,
        "DTF_WORKER": name,
    }
    return argv, env


async def up(
    *,
    workers: Annotated[int | None, Parameter(name=["--workers", "-n"])] = None,
    port: int | None = None,
) -> int:
    """Run a whole pool on this machine until Ctrl-C.

    Parameters
    ----------
    workers
        Worker processes; 0 for none of ours (join others with `dtf-worker run`).
    port
        Port of the server on 127.0.0.1; a free one without it.
    """
    config = current().config
    count = worker_count(workers if workers is not None else config.workers, 0, 0)
    async with local_pool(config, workers=count, port=port, share=False) as pool:
        say(f"dtf is up: {plural(count, 'worker')} at {pool.url}, data in {config.data_dir}")
        say("  in this directory: dtf run suite.toml, dtf status")
        say(f"  anywhere else:     the same with --data-dir {config.data_dir}")
        say("Ctrl-C stops it.", style="dim")
        await _until_told()
        say("Stopping ...", style="dim")
    return 0


async def _until_told() -> None:
    """Returns at the first SIGINT or SIGTERM; the next one acts as usual."""
    told = asyncio.Event()
    with on_signals(told.set):
        await told.wait()
