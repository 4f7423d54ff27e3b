"""What runs beside the server of a local pool: coordinator, projector, query service, workers.

Rule: what a run needs starts first and side by side; the history follows once the pool is idle.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from .core.children import Child, end, spawn
from .core.errors import DtfError
from .crew import Crew
from .tui.console import warn
from .tui.sizing import share_of

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .coordinator.service import Coordinator
    from .core.adapters.jetstream import JetStreamLog
    from .core.adapters.nats_client import Connection
    from .core.config import Config
    from .history import History

JOIN_LIMIT_S = 30.0
CATCH_UP_LIMIT_S = 20.0
DRAIN_S = 0.5
"""What workers still run when the pool closes belongs to no command any more."""
GRACE_S = 3.0
RESTARTS_MAX = 3
"""Restarts of one worker in a pool's life; one that dies more often has a cause to be found."""


@asynccontextmanager
async def running_services(
    config: Config, connection: Connection, workers: int, crew: Crew
) -> AsyncIterator[Services]:
    """Coordinator, projector, query service and workers run; cancelled and killed at the end."""
    async with anyio.create_task_group() as group:
        services = Services(config, connection, workers, crew, group)
        try:
            await services.start()
            yield services
        finally:
            with anyio.CancelScope(shield=True):
                services.closing = True
                await end(services.children, 0, 0)
            group.cancel_scope.cancel()


class Services:
    """What runs beside the server."""

    def __init__(
        self,
        config: Config,
        connection: Connection,
        workers: int,
        crew: Crew,
        group: TaskGroup,
    ) -> None:
        self.config = config
        self.connection = connection
        self.workers = workers
        self.crew = crew
        self.group = group
        self.children: list[Child] = []
        self.closing = False
        self._coordinator: Coordinator | None = None
        self._history: History | None = None
        self._awaited: set[str] = set()
        """Workers that have not joined yet."""

    async def start(self) -> None:
        """A leader decides, the projector writes, every worker has joined."""
        from .coordinator.process import GC_THRESHOLD
        from .coordinator.service import Coordinator
        from .core.adapters.jetstream import JetStreamLog
        from .core.subjects import Subjects
        from .history import History

        gc.set_threshold(GC_THRESHOLD, 50, 100)
        subjects = Subjects(self.config.pool)
        log = JetStreamLog(self.connection, subjects.log_stream)
        before = (await log.tail()).last
        names = [f"{self.config.worker[:60]}-{number + 1}" for number in range(self.workers)]
        self._awaited = set(names)
        for name in names:
            self.group.start_soon(self._keep_worker, name, name == names[0], name=f"worker {name}")
        self._coordinator = Coordinator.connected(self.connection, self.config.pool, "local")
        self.group.start_soon(self._coordinator.run, name="coordinator")
        self._history = History(self.config, self.connection, lambda: self.idle)
        await self._joined(log, subjects.worker("*"), before)
        self.group.start_soon(self._history.run, name="history")

    @property
    def idle(self) -> bool:
        """No run is open."""
        known = self._coordinator
        return known is None or all(run.settled for run in known.fold.pool.runs.values())

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
        log_file = home.with_suffix(".log")
        for attempt in range(RESTARTS_MAX + 1):
            process = await self._start_worker(name, detect, home, log_file)
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

    async def _start_worker(self, name: str, detect: bool, home: Path, log_file: Path) -> Child:
        """A fork of the crew, or where there is none a process of its own."""
        argv, env = worker_command(self.config, name, self.workers, detect=detect)
        cpu_milli, memory_bytes = share_of(self.workers)
        options = {"cpu_milli": cpu_milli, "memory_bytes": memory_bytes, "detect": detect}
        forked = await self.crew.fork(name, options, env, home, log_file)
        return forked or await spawn(argv, env, home, log_file)

    async def _caught_up(self) -> None:
        """The projector has written the last event of the log, or its time is up."""
        from .core.adapters.jetstream import JetStreamLog
        from .core.subjects import Subjects

        log = JetStreamLog(self.connection, Subjects(self.config.pool).log_stream)
        last = (await log.tail()).last
        if self._history is not None:
            with anyio.move_on_after(CATCH_UP_LIMIT_S):
                await self._history.reached(last)


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
