"""The program `dtf-worker` on a real server: it joins, works, outlives the server, and leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from dtf.core import events as e
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.nats_client import Connection, connect
from dtf.core.codec import decode_batch, encode_batch
from dtf.core.exit_codes import ExitCode
from dtf.core.ids import random_id
from dtf.core.model import TaskSpec, Verdict
from dtf.core.server import EmbeddedServer
from dtf.core.setup import init_pool
from dtf.core.subjects import Subjects

E = TypeVar("E", bound=e.Event)
LIMIT_S = 30.0
Process = asyncio.subprocess.Process


class Pool:
    """A pool on a real server, its log as read so far, and a leader that says what it is told."""

    def __init__(self, server: EmbeddedServer, connection: Connection, folder: Path) -> None:
        self.server = server
        self.connection = connection
        self.folder = folder
        self.subjects = Subjects("main")
        self.log = JetStreamLog(connection, self.subjects.log_stream)
        self.seen: list[e.Event] = []
        self.changed = asyncio.Condition()
        self.processes: list[Process] = []
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with aclosing(self.log.read([], 0)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                async with self.changed:
                    for message in batch:
                        self.seen += [
                            x for x in decode_batch(message.data) if isinstance(x, e.Event)
                        ]
                    self.changed.notify_all()

    def told(self, kind: type[E], **fields: Any) -> list[E]:
        return [
            x
            for x in self.seen
            if isinstance(x, kind) and all(getattr(x, k) == v for k, v in fields.items())
        ]

    async def until(self, fact: Callable[[], Any]) -> Any:
        async with asyncio.timeout(LIMIT_S), self.changed:
            await self.changed.wait_for(fact)
            return fact()

    async def start(self, *options: str, name: str = "w1", **env: str) -> Process:
        """A worker process."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dtf.worker", "run", "--name", name, "--data-dir",
            str(self.folder / "data"), "--cpus", "2", "--no-detect", *options,
            env={**os.environ, "DTF_SERVER": self.server.url, "DTF_USER": self.server.user,
                 "DTF_PASSWORD": self.server.password, **env},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def joined(self, count: int = 1) -> e.WorkerJoined:
        joins: list[e.WorkerJoined] = await self.until(
            lambda: self.told(e.WorkerJoined) if len(self.told(e.WorkerJoined)) >= count else None
        )
        return joins[-1]

    async def assign(self, spec: TaskSpec, join: e.WorkerJoined, task: str = "t-0") -> str:
        token = f"{task}.1.1.{random_id(6)}"
        event = e.TaskAssigned(
            term=1, run="run1", token=token, incarnation=join.incarnation, spec=spec
        )
        subject = self.subjects.assign("cpu", "w1")
        await self.log.append(subject, encode_batch([event]), random_id(26))
        return token

    async def finished(self, token: str) -> e.AttemptFinished:
        ends = await self.until(lambda: self.told(e.AttemptFinished, token=token))
        return ends[0]  # type: ignore[no-any-return]

    async def close(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.communicate()
        self.reader.cancel()
        with suppress(asyncio.CancelledError):
            await self.reader


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    async with EmbeddedServer(tmp_path / "server") as server:
        connection = await connect(server.options("test"))
        await init_pool(connection, "main")
        pool = Pool(server, connection, tmp_path)
        try:
            yield pool
        finally:
            await pool.close()
            await connection.aclose()


async def end_of(process: Process) -> tuple[int, str]:
    """Exit status and what was said on stderr."""
    async with asyncio.timeout(LIMIT_S):
        _, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stderr.decode()


async def gone(pid: int) -> None:
    """The process has ended; whoever inherited it may not have asked for its status yet."""
    async with asyncio.timeout(LIMIT_S):
        while running(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_it_joins_works_and_leaves_on_sigterm(pool: Pool) -> None:
    process = await pool.start("--label", "rack=b7,zone=2", "--hardware", "openvino", "--json")
    join = await pool.joined()
    assert join.labels == {"rack": "b7", "zone": "2"}
    assert (join.hardware, join.cpu_milli) == (["cpu", "openvino"], 2000)
    assert join.server_id
    assert join.client_id
    token = await pool.assign(TaskSpec(command=["sh", "-c", "sleep 0.3; echo out"]), join)
    await pool.until(lambda: pool.told(e.AttemptStarted, token=token))
    process.send_signal(signal.SIGTERM)
    end = await pool.finished(token)
    assert end.verdict is Verdict.PASSED
    assert end.output is not None
    assert end.output.tail == "out\n"
    code, stderr = await end_of(process)
    assert code == ExitCode.PASSED
    assert '"message":"SIGTERM: draining' in stderr
    await pool.until(lambda: pool.told(e.WorkerLeft))
    assert pool.told(e.WorkerDraining)


async def test_a_second_signal_ends_it_at_once(pool: Pool) -> None:
    process = await pool.start()
    join = await pool.joined()
    token = await pool.assign(TaskSpec(command=["sleep", "1000"]), join)
    await pool.until(lambda: pool.told(e.AttemptStarted, token=token))
    process.send_signal(signal.SIGINT)
    await pool.until(lambda: pool.told(e.WorkerDraining))
    process.send_signal(signal.SIGINT)
    code, stderr = await end_of(process)
    assert code == ExitCode.PASSED
    assert "stopping now" in stderr
    assert not pool.told(e.AttemptFinished)


async def test_kill_minus_nine_takes_every_process_of_every_task_with_it(pool: Pool) -> None:
    process = await pool.start()
    join = await pool.joined()
    pids = pool.folder / "pids"
    script = f"(setsid sleep 1000 & echo $! >> {pids}); echo $$ >> {pids}; exec sleep 1000"
    token = await pool.assign(TaskSpec(command=["sh", "-c", script]), join)
    await pool.until(lambda: pool.told(e.AttemptStarted, token=token))
    process.kill()
    for pid in pids.read_text().split():
        await gone(int(pid))


async def test_results_survive_a_restart_of_the_server(pool: Pool) -> None:
    await pool.start()
    join = await pool.joined()
    flag = pool.folder / "flag"
    wait = f"while [ ! -e {flag} ]; do sleep 0.01; done; echo done"
    token = await pool.assign(TaskSpec(command=["sh", "-c", wait]), join)
    await pool.until(lambda: pool.told(e.AttemptStarted, token=token))
    pool.server.kill()
    flag.touch()
    await pool.server.restart()
    end = await pool.finished(token)
    assert end.verdict is Verdict.PASSED
    after = await pool.assign(TaskSpec(command=["/bin/true"]), join, "t-1")
    assert (await pool.finished(after)).verdict is Verdict.PASSED, "it reads on where it stood"
    assert len(pool.told(e.AttemptFinished)) == 2
    assert len(pool.told(e.WorkerJoined)) == 1


async def test_the_older_of_two_agents_of_one_name_ends_with_the_reason(pool: Pool) -> None:
    first = await pool.start()
    await pool.joined()
    await pool.start()
    code, stderr = await end_of(first)
    assert code == ExitCode.FAILED
    assert "superseded: another agent joined under this name" in stderr


async def test_a_server_that_is_not_there_or_refuses_us_is_named(pool: Pool) -> None:
    nowhere = await pool.start(DTF_SERVER="nats://127.0.0.1:1")
    code, stderr = await end_of(nowhere)
    assert code == ExitCode.UNAVAILABLE
    assert "nats://127.0.0.1:1" in stderr
    stranger = await pool.start(DTF_PASSWORD="wrong")
    code, stderr = await end_of(stranger)
    assert code in (ExitCode.UNAVAILABLE, ExitCode.USAGE)
    assert "uthori" in stderr
    assert "Traceback" not in stderr


async def test_it_ends_with_its_parent_when_asked_to(pool: Pool, tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "print(subprocess.Popen(sys.argv[1:]).pid, flush=True)\n"
        "time.sleep(1000)"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, sys.executable, "-m", "dtf.worker", "run", "--name", "w1",
        "--data-dir", str(tmp_path / "data"), "--no-detect", "--with-parent",
        env={**os.environ, "DTF_SERVER": pool.server.url, "DTF_USER": pool.server.user,
             "DTF_PASSWORD": pool.server.password},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    pool.processes.append(parent)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    await pool.joined()
    parent.kill()
    await pool.until(lambda: pool.told(e.WorkerLeft))
    await gone(pid)


async def early_worker(server: EmbeddedServer, folder: Path, *options: str) -> Process:
    """A worker on a server that has no pool yet."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dtf.worker", "run", "--name", "w1", "--data-dir",
        str(folder / "data"), "--no-detect", *options,
        env={**os.environ, "DTF_SERVER": server.url, "DTF_USER": server.user,
             "DTF_PASSWORD": server.password},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_without_a_pool_a_worker_waits_a_while_and_names_the_remedy(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "server") as server:
        code, said = await end_of(await early_worker(server, tmp_path, "--patience", "0.5"))
        assert code == 3
        assert "there is no pool 'main'" in said
        assert "`dtf pool init`" in said


async def test_a_worker_that_came_before_its_pool_joins_it(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "server") as server:
        process = await early_worker(server, tmp_path)
        connection = await connect(server.options("test"))
        try:
            assert process.stderr is not None
            async with asyncio.timeout(LIMIT_S):
                while b"waiting for pool main" not in (line := await process.stderr.readline()):
                    assert line, "it says that it waits"
            await init_pool(connection, "main")
            pool = Pool(server, connection, tmp_path)
            pool.processes.append(process)
            await pool.joined()
            await pool.close()
        finally:
            await connection.aclose()
            if process.returncode is None:
                process.kill()
                await process.communicate()
