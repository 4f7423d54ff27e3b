"""Each mended defect of nats-py has a test here: when nats-py changes under an override, one of
these fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest
from dtf.core.adapters.nats_client import Connection, NatsOptions, connect
from dtf.core.errors import AppendRefused, InvalidConfig, LogUnavailable, ServerUnavailable
from dtf.core.server import EmbeddedServer


async def answers(connection: Connection) -> None:
    """The connection is fully alive: a request is answered."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(LogUnavailable):
                await connection.api("INFO")
                return
            await connection.wait_connected()


async def test_a_cancelled_flush_does_not_end_the_read_loop(connection: Connection) -> None:
    nc = connection.nc
    for _ in range(3):
        flush = asyncio.ensure_future(nc.flush())
        while not nc._pongs:  # noqa: ASYNC110 - private state sets no event
            await asyncio.sleep(0)
        flush.cancel()
        await asyncio.wait([flush])
    await nc.flush()
    reading = nc._reading_task
    await answers(connection)
    assert nc._reading_task is reading, "no reconnect was needed"


async def test_flush_is_a_barrier_behind_everything_published(
    server: EmbeddedServer, connection: Connection
) -> None:
    other = await connect(server.options("other"))
    received: list[bytes] = []
    other.listen("barrier", lambda subject, reply, data, headers: received.append(data))
    await other.nc.flush()
    for index in range(3000):
        await connection.nc.publish("barrier", b"%d" % index)
    await connection.nc.flush()
    await other.nc.flush()
    assert len(received) == 3000
    await other.aclose()


async def test_an_expired_login_reconnects_instead_of_closing_for_good(
    connection: Connection,
) -> None:
    await connection.nc._process_err("'user authentication expired'")
    assert not connection.connected
    await connection.wait_connected()
    assert not connection.nc.is_closed
    await answers(connection)


async def test_a_bug_in_the_parser_reconnects(connection: Connection) -> None:
    parse, calls = connection.nc._ps.parse, 0

    async def fail_once(data: bytes = b"") -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError("a bug")
        await parse(data)

    connection.nc._ps.parse = fail_once  # type: ignore[method-assign]
    with pytest.raises(LogUnavailable):
        await connection.api("INFO")
    await answers(connection)
    assert calls > 1


async def test_a_failing_handler_harms_nobody_else(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        raise ZeroDivisionError(data)

    connection.listen("fails", fail)
    connection.send("fails", b"now")
    reading = connection.nc._reading_task
    await connection.nc.flush()
    assert "ZeroDivisionError" in caplog.text
    await answers(connection)
    assert connection.nc._reading_task is reading


async def test_nothing_posted_while_disconnected_is_sent_later(
    server: EmbeddedServer, connection: Connection
) -> None:
    received: list[bytes] = []
    connection.listen("ghosts", lambda subject, reply, data, headers: received.append(data))
    await server.stop()
    while connection.connected:  # noqa: ASYNC110 - it should be seen at once
        await asyncio.sleep(0)
    assert not connection.send("ghosts", b"a ghost")
    with pytest.raises(LogUnavailable):
        await connection.request("ghosts", b"another", timeout=60)
    await server.start()
    await connection.wait_connected()
    await answers(connection)
    connection.send("ghosts", b"alive")
    await connection.nc.flush()
    assert received == [b"alive"], "the subscription survived, the ghosts did not"


async def test_of_a_queue_one_listener_gets_each_message_also_after_a_restart(
    server: EmbeddedServer, connection: Connection
) -> None:
    received: list[bytes] = []
    for _ in range(3):
        connection.listen("work", lambda s, reply, data, h: received.append(data), "queue")
    connection.send("work", b"1")
    await connection.nc.flush()
    reconnected = asyncio.Event()
    connection.on_reconnect.append(reconnected.set)
    await server.restart()
    await reconnected.wait()
    connection.send("work", b"2")
    await connection.nc.flush()
    assert received == [b"1", b"2"]


async def test_open_requests_fail_at_once_when_the_server_dies(
    server: EmbeddedServer, connection: Connection
) -> None:
    connection.listen("silence", lambda subject, reply, data, headers: None)
    asked = asyncio.ensure_future(connection.request("silence", timeout=3600))
    await connection.nc.flush()
    server.kill()
    with pytest.raises(LogUnavailable):
        await asked


async def test_a_request_without_an_answer_ends_at_its_limit(connection: Connection) -> None:
    connection.listen("silence", lambda subject, reply, data, headers: None)
    with pytest.raises(LogUnavailable, match="in time"):
        await connection.request("silence", timeout=0.05)
    with pytest.raises(LogUnavailable, match="nobody answers"):
        await connection.request("no.such.service", timeout=60)


async def test_ids_are_those_of_the_current_connection(
    server: EmbeddedServer, connection: Connection
) -> None:
    before = (connection.server_id, connection.client_id)
    reconnected = asyncio.Event()
    connection.on_reconnect.append(reconnected.set)
    await server.restart()
    await reconnected.wait()
    after = (connection.server_id, connection.client_id)
    assert None not in before + after
    assert before[0] != after[0]


async def test_a_server_that_is_not_there_is_named_with_the_remedy() -> None:
    with pytest.raises(ServerUnavailable, match=r"nats://127\.0\.0\.1:1") as caught:
        await connect(NatsOptions(url="nats://127.0.0.1:1"), patience_s=0.2)
    assert "dtf up" in caught.value.remedy


async def test_wrong_credentials_are_told_at_once(server: EmbeddedServer) -> None:
    wrong = msgspec.structs.replace(server.options("me"), password="wrong")
    with pytest.raises(InvalidConfig, match="credentials of 'me'"):
        await connect(wrong, patience_s=60)


async def test_a_url_that_is_none_is_told() -> None:
    with pytest.raises(InvalidConfig, match="nats://:x"):
        await connect(NatsOptions(url="nats://:x"))


async def test_a_missing_permission_refuses_the_append_at_once(tmp_path: Path) -> None:
    class Restricted(EmbeddedServer):
        def _config(self) -> str:
            return (
                super()
                ._config()
                .replace(
                    'users: [{user: "dtf"',
                    'users: [{permissions: {publish: {deny: ["Secret.>"]}}, user: "dtf"',
                )
            )

    async with Restricted(tmp_path / "server", sync_always=False) as server:
        connection = await connect(server.options())
        with pytest.raises(AppendRefused, match=r"no permission to publish to Secret\.x"):
            await connection.request("Secret.x", timeout=60)
        await answers(connection)
        await connection.aclose()


async def test_closing_is_final_and_told_to_whoever_waits(connection: Connection) -> None:
    connection.listen("silence", lambda subject, reply, data, headers: None)
    asked = asyncio.ensure_future(connection.request("silence", timeout=3600))
    await connection.nc.flush()
    await connection.aclose()
    await connection.aclose()
    with pytest.raises(LogUnavailable):
        await asked
    with pytest.raises(LogUnavailable):
        await connection.wait_connected()
