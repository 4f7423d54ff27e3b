"""A whole pool inside one process: server, coordinator, projector, and workers as its children.

Rule: whoever starts it ends all of it, and leaves nothing behind but the data directory.

Two commands on one data directory share the pool of the first; the owner waits for the others
before it closes. The same code against `--server` needs nothing of this file.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from .core.errors import ServerUnavailable
from .core.pool_file import (
    POOL_FILE,
    PoolFile,
    find_pool_file,
    remove_pool_file,
    write_pool_file,
)
from .core.pool_lock import PoolLock
from .core.pool_process import LOOK_S as START_LOOK_S
from .core.pool_process import START_LIMIT_S, PoolInUse
from .core.session import current
from .crew import Crew
from .services import Services, running_services
from .tui.console import say, warn
from .tui.formats import plural
from .tui.sizing import worker_count

if TYPE_CHECKING:
    from .core.adapters.nats_client import Connection
    from .core.client import Client
    from .core.config import Config
    from .core.server import EmbeddedServer

ENTER_LIMIT_S = 60.0
LOOK_S = 0.05
SERVER_LOOK_S = 0.5


class IdleStop:
    """Tells when nobody has used the pool for `limit_s`: no command, and no open run."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.over = asyncio.Event()

    async def watch(self, lock: PoolLock, services: Services) -> None:
        """Sets `over` in the end."""
        used = time.time()
        while not self.over.is_set():
            await asyncio.sleep(min(1.0, self.limit_s / 10))
            since = lock.unused_since() if services.idle else None
            used = time.time() if since is None else max(used, since)
            if time.time() - used >= self.limit_s:
                self.over.set()


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
    idle: IdleStop | None = None,
    crew: Crew | None = None,
) -> AsyncIterator[PoolFile]:
    """The local pool of the data directory runs: ours, or with `share` another process's.

    `idle` is told when ours is used no more; `crew` is one that was started before. Raises
    `ServerUnavailable` when another owns the pool and does not let us in.
    """
    lock = PoolLock(config.data_dir)
    try:
        found = await _enter(lock, config.data_dir, share=share, reading=reading)
        if found is not None:
            yield found
            return
        if not reading and crew is None and workers:
            crew = Crew()  # what it imports takes as long as everything below
        async with _own_server(config, port, announced=not reading, standing=not share) as (
            mine,
            connection,
        ):
            if reading:
                yield mine
                return
            async with _own_pool(
                config, lock, connection, workers, crew or Crew(wanted=False), idle
            ):
                write_pool_file(config.data_dir, msgspec.structs.replace(mine, ready=True))
                yield mine
    finally:
        if crew is not None:
            crew.close()
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


async def ensure_pool(
    config: Config, workers: int | None = None
) -> tuple[PoolFile, Callable[[], Awaitable[None]]]:
    """The local pool of the configuration, ready for submissions, and what lets go of it.

    One that runs is used and stays. Else `dtf up` is started as a child; it ends with `release`,
    and with this process, however that ends. `workers`: of a pool that is started; None: as
    configured. Raises `ServerUnavailable` when it cannot start. `core/pool_process.py` is the same
    without an event loop.
    """
    use = PoolInUse(config, workers)

    async def release() -> None:
        await anyio.to_thread.run_sync(use.release)

    try:
        with anyio.fail_after(START_LIMIT_S):
            while True:
                found = use.look()
                if found is not None:
                    return found, release
                await asyncio.sleep(START_LOOK_S)
    except BaseException as error:
        use.release(0)
        if isinstance(error, TimeoutError):
            raise ServerUnavailable(f"no pool was ready on {config.data_dir}") from error
        raise


@asynccontextmanager
async def _own_server(
    config: Config, port: int | None, *, announced: bool, standing: bool
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
                ready=not announced,
                standing=standing,
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
    config: Config,
    lock: PoolLock,
    connection: Connection,
    workers: int,
    crew: Crew,
    idle: IdleStop | None,
) -> AsyncIterator[None]:
    """Every part started in order, stopped in the opposite order."""
    async with running_services(config, connection, workers, crew) as services:
        try:
            if idle is not None:
                services.group.start_soon(idle.watch, lock, services, name="idle")
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
