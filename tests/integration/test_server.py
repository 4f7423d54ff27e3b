"""The embedded server: its data, its secrets, its port and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.nats_client import Connection, connect
from dtf.core.codec import decode_batch, encode_batch
from dtf.core.errors import AppendRefused, InvalidConfig, LogUnavailable, ServerUnavailable
from dtf.core.events import PoolCreated, WorkerLeft
from dtf.core.fold import Fold
from dtf.core.ids import random_id
from dtf.core.ports import LogTail
from dtf.core.server import BINARY_ENV, EmbeddedServer, running_server
from dtf.core.setup import UUID_KEY, init_pool
from dtf.core.subjects import Subjects

SUBJECTS = Subjects("main")


async def test_data_and_credentials_outlive_the_server(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as first:
        connection = await connect(first.options())
        uuid = await init_pool(connection)
        await JetStreamLog(connection, SUBJECTS.log_stream).append(
            SUBJECTS.leader, b"[]", random_id(26)
        )
        await connection.aclose()
    async with EmbeddedServer(tmp_path) as second:
        assert (second.user, second.password) == (first.user, first.password)
        connection = await connect(second.options())
        assert await init_pool(connection) == uuid
        assert await JetStreamLog(connection, SUBJECTS.log_stream).tail() == LogTail(1, 2)
        await connection.aclose()


async def test_clients_find_a_restarted_server_on_its_port(
    server: EmbeddedServer, connection: Connection
) -> None:
    url, pid = server.url, server.pid
    server.kill()
    assert server.pid is None
    await server.start()
    assert server.url == url
    assert server.pid != pid
    await connection.wait_connected()


async def test_secrets_are_for_the_owner_only(server: EmbeddedServer) -> None:
    for name in ("credentials.json", "nats-server.conf", "server.json"):
        assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600, name
    assert len(server.password) >= 24


async def test_only_this_machine_may_come_in_and_nothing_else_is_open(
    server: EmbeddedServer,
) -> None:
    config = (server.data_dir / "nats-server.conf").read_text()
    assert 'listen: "127.0.0.1:' in config
    assert "http" not in config


async def test_acknowledged_means_synced_by_default(tmp_path: Path) -> None:
    assert "sync_interval: always" in EmbeddedServer(tmp_path)._config()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerUnavailable, match=f"port {port} is taken"):
            await EmbeddedServer(tmp_path, port=port).start()


async def test_two_servers_never_share_a_data_directory(server: EmbeddedServer) -> None:
    with pytest.raises(ServerUnavailable, match=r"runs on .* already at nats://"):
        await EmbeddedServer(server.data_dir).start()


async def test_others_on_this_machine_find_the_running_server(server: EmbeddedServer) -> None:
    found = running_server(server.data_dir)
    assert found is not None
    connection = await connect(found)
    await connection.aclose()
    await server.stop()
    assert running_server(server.data_dir) is None


async def test_a_crash_leaves_no_trace_of_a_running_server(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.pid is not None:  # noqa: ASYNC110 - a process sets no event
        await asyncio.sleep(0)
    assert running_server(server.data_dir) is None
    await server.start()
    assert running_server(server.data_dir) is not None


async def test_an_operators_own_binary_is_used_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BINARY_ENV, str(tmp_path / "nothing"))
    with pytest.raises(InvalidConfig, match=BINARY_ENV):
        await EmbeddedServer(tmp_path / "a").start()
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such luck >&2; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv(BINARY_ENV, str(broken))
    with pytest.raises(ServerUnavailable, match="ended with 3 at start: no such luck"):
        await EmbeddedServer(tmp_path / "b").start()


START = """
import asyncio, sys
from pathlib import Path
from dtf.core.server import EmbeddedServer

async def main():
    detached = sys.argv[2] == "detached"
    server = EmbeddedServer(Path(sys.argv[1]), sync_always=False, detached=detached)
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def start_elsewhere(directory: Path, how: str) -> tuple[subprocess.Popen[str], int]:
    """A process of its own with a server; the server's process id."""
    owner = subprocess.Popen(
        [sys.executable, "-c", START, str(directory), how], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def end(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG of Linux")
async def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    owner, _pid = start_elsewhere(tmp_path, "attached")
    assert running_server(tmp_path) is not None
    end(owner)
    async with asyncio.timeout(20):
        while running_server(tmp_path) is not None:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(0.01)


GUARD = """
import subprocess, sys, time
from dtf.core.server import guard_process
sleeper = subprocess.Popen(["sleep", "1000"])
guard = guard_process(sleeper.pid)
print(sleeper.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs /bin/sh")
def test_a_guard_ends_its_charge_when_the_owner_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", GUARD], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert psutil.pid_exists(pid)
    charge = psutil.Process(pid)
    end(owner)
    charge.wait(timeout=20)


async def test_a_detached_server_outlives_its_owner(tmp_path: Path) -> None:
    owner, pid = start_elsewhere(tmp_path, "detached")
    end(owner)
    found = running_server(tmp_path)
    assert found is not None
    connection = await connect(found)
    await connection.aclose()
    os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(20):
        while running_server(tmp_path) is not None:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(0.01)


async def test_the_end_of_a_connection_is_told_with_its_ids(
    server: EmbeddedServer, connection: Connection
) -> None:
    told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_disconnect(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        told.set_result(data)

    connection.listen("dtf.sys.disconnect", on_disconnect)
    await connection.nc.flush()
    other = await connect(server.options("other"))
    ids = (other.server_id, other.client_id)
    await other.aclose()
    async with asyncio.timeout(20):
        event = msgspec.json.decode(await told)
    assert (event["server"]["id"], event["client"]["id"]) == ids
    assert (event["client"]["name"], event["reason"]) == ("other", "Client Closed")


async def test_an_account_may_list_its_own_connections(connection: Connection) -> None:
    answer = msgspec.json.decode(
        await connection.request("$SYS.REQ.ACCOUNT.PING.CONNZ", timeout=20)
    )
    assert [c["cid"] for c in answer["data"]["connections"]] == [connection.client_id]


async def test_many_may_make_the_pool_at_once(server: EmbeddedServer) -> None:
    connections = [await connect(server.options(f"c{i}")) for i in range(4)]
    uuids = await asyncio.gather(*[init_pool(c) for c in connections for _ in range(2)])
    assert len(set(uuids)) == 1
    log = JetStreamLog(connections[0], SUBJECTS.log_stream)
    assert await log.tail() == LogTail(1, 1)
    for opened in connections:
        await opened.aclose()


async def test_a_pool_is_made_though_others_wrote_into_its_log_first(
    connection: Connection,
) -> None:
    log, subjects = JetStreamLog(connection, "DTF_early_LOG"), Subjects("early")
    config = {"name": "DTF_early_LOG", "subjects": subjects.log_subjects, "storage": "file"}
    await connection.api("STREAM.CREATE.DTF_early_LOG", config | {"metadata": {UUID_KEY: "u1"}})
    early = encode_batch([WorkerLeft(incarnation="i")])
    await log.append(subjects.worker("w"), early, random_id(26))
    await log.append(subjects.pool_rulings, b"[garbage", random_id(26))
    assert await init_pool(connection, "early") == "u1"
    assert await init_pool(connection, "early") == "u1"
    assert await log.tail() == LogTail(1, 3)
    fold = Fold("early")
    for sequence in range(1, 4):
        message = await log.get(sequence)
        assert message is not None
        fold.apply(message)
    assert fold.pool.uuid == "u1"


async def test_nothing_gets_into_a_log_before_the_pool_is_made(connection: Connection) -> None:
    """Others try all the time while the pool is made; the first message is `PoolCreated`."""
    log, subjects = JetStreamLog(connection, "DTF_busy_LOG"), Subjects("busy")
    made = asyncio.create_task(init_pool(connection, "busy"))
    while not made.done():
        with contextlib.suppress(AppendRefused, LogUnavailable):
            await log.append(subjects.worker("w"), b"[]", random_id(26), timeout=1)
    first = await log.get(1)
    assert first is not None
    assert isinstance(decode_batch(first.data)[0], PoolCreated)
    await log.append(subjects.worker("w"), b"[]", random_id(26))


async def test_pools_do_not_meet(connection: Connection) -> None:
    assert await init_pool(connection, "a") != await init_pool(connection, "b")


async def test_a_log_takes_more_consumers_than_the_default_limit(
    connection: Connection, pool: Subjects
) -> None:
    config = {"ack_policy": "none", "mem_storage": True, "inactive_threshold": 60_000_000_000}
    async with asyncio.timeout(60):
        await asyncio.gather(
            *[
                connection.api(
                    f"CONSUMER.CREATE.{pool.log_stream}.c{i}",
                    {"stream_name": pool.log_stream, "config": config | {"name": f"c{i}"}},
                    timeout=50,
                )
                for i in range(1001)
            ]
        )


async def test_starting_twice_is_starting_once(server: EmbeddedServer) -> None:
    pid = server.pid
    await server.start()
    assert server.pid == pid
    await server.stop()
    with contextlib.suppress(ServerUnavailable):
        await server.stop()
    assert server.pid is None
