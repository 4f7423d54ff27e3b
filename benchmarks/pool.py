"""A pool as users run it: a server with fsync on every write, and every part in a process of its
own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType

import psutil

from ..core.adapters.nats_client import connect
from ..core.client import Client, open_client
from ..core.config import load_config
from ..core.errors import QueryRefused, Unavailable
from ..core.fold import Fold
from ..core.server import EmbeddedServer
from ..core.setup import init_pool

START_LIMIT_S = 30


class BenchPool:
    """Server, coordinator, projector and `workers` worker processes of one core each; a client."""

    def __init__(self, data_dir: Path, *, workers: int = 2, projector: bool = True) -> None:
        self.data_dir = data_dir
        self.server = EmbeddedServer(data_dir / "server")
        self.workers = workers
        self.projector = projector
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.client: Client
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> BenchPool:
        try:
            await self._start()
        except BaseException:
            self._show_logs()
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._show_logs()
        await self._stop()

    def _show_logs(self) -> None:
        """What the parts said, for whoever has to find out why a benchmark failed."""
        for log in sorted(self.data_dir.glob("*.log")):
            sys.stderr.write(f"--- {log.name}\n{log.read_text()[-2000:]}\n")

    async def _start(self) -> None:
        await self.server.start()
        connection = await connect(self.server.options("init"))
        await init_pool(connection)
        await connection.aclose()
        self.spawn("coordinator", ["-m", "dtf", "coordinator", "run", "--name", "bench"])
        if self.projector:
            self.spawn("projector", ["-m", "dtf", "projector", "run"])
        for number in range(self.workers):
            self.start_worker(f"w{number}")
        config = load_config(self._flags(), env={}, cwd=self.data_dir)
        self.client = await self._stack.enter_async_context(open_client(config))
        await self.ready(self.workers)
        if self.projector:
            await self._answering()

    async def _answering(self) -> None:
        """The query service is there."""
        async with asyncio.timeout(START_LIMIT_S):
            while True:
                try:
                    await self.client.query("SELECT 1")
                    return
                except (Unavailable, QueryRefused):
                    await asyncio.sleep(0.1)

    def _flags(self) -> dict[str, str]:
        return {
            "server": self.server.url,
            "user": self.server.user,
            "password": self.server.password,
            "data_dir": str(self.data_dir),
            "publisher": "bench",
        }

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        """One more worker process of one core."""
        return self.spawn(name, ["-m", "dtf.worker", "run", "--name", name, "--cpus", "1"])

    def spawn(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """A part of the pool as a process; its words go to a file in the data directory."""
        env = {**os.environ, **{f"DTF_{k.upper()}": v for k, v in self._flags().items()}}
        with (self.data_dir / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.processes[name] = process
        return process

    async def ready(self, workers: int) -> None:
        """A leader is elected and `workers` workers have joined."""
        fold = Fold(self.client.config.pool)
        async with (
            asyncio.timeout(START_LIMIT_S),
            aclosing(self.client.log.read([], 0, name="bench_ready")) as batches,
        ):
            async for messages in batches:
                for message in messages:
                    fold.apply(message)
                living = [w for w in fold.pool.workers.values() if not w.ended]
                if fold.pool.term and len(living) >= workers:
                    return

    def cpu_s(self) -> float:
        """CPU seconds used so far by every process of the pool and by this one."""
        pids = [process.pid for process in self.processes.values() if process.poll() is None]
        pids += [os.getpid(), self.server.pid or os.getpid()]
        times = [psutil.Process(pid).cpu_times() for pid in set(pids)]
        return float(sum(t.user + t.system for t in times))

    def rss_bytes(self, name: str) -> int:
        """Resident memory of one part."""
        return int(psutil.Process(self.processes[name].pid).memory_info().rss)

    async def _stop(self) -> None:
        await self._stack.aclose()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        await self.server.stop()
