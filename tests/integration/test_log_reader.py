"""The pull reader when something goes wrong between it and the server."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing

import pytest
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.lease import JetStreamLease
from dtf.core.adapters.log_reader import CREDIT, LogReader, message_headers
from dtf.core.adapters.nats_client import Connection
from dtf.core.errors import AppendRefused, LogUnavailable, NotFound
from dtf.core.ids import random_id
from dtf.core.ports import Appended, Lease
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects


async def fill(log: JetStreamLog, subject: str, count: int) -> None:
    """`count` messages are stored, numbered in their data."""
    done, left = asyncio.get_running_loop().create_future(), count

    def stored(result: Appended | Exception) -> None:
        nonlocal left
        assert isinstance(result, Appended)
        left -= 1
        if not left:
            done.set_result(None)

    for number in range(count):
        log.append_soon(subject, b"%d" % number, random_id(26), stored, timeout=30)
    await done


async def sequences(reader: LogReader, count: int) -> list[int]:
    """The next `count` sequences."""
    found: list[int] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += [message.sequence for message in await reader.next_batch()]
    return found


@pytest.fixture
def log(connection: Connection, pool: Subjects) -> JetStreamLog:
    return JetStreamLog(connection, pool.log_stream)


async def test_a_reader_that_stalls_holds_a_bounded_number_of_messages(
    log: JetStreamLog, pool: Subjects
) -> None:
    await fill(log, pool.leader, 3 * CREDIT)
    async with aclosing(reader := LogReader(log.connection, log.stream, [], 0)):
        first = await sequences(reader, 1)
        await log.connection.nc.flush()
        while await pending(log.connection, reader) != 3 * CREDIT + 1 - reader.last:
            await log.connection.nc.flush()
        assert len(reader._arrived) <= CREDIT
        rest = await sequences(reader, 3 * CREDIT + 1 - len(first))
    assert sorted(set(first + rest)) == list(range(1, 3 * CREDIT + 2))


async def pending(connection: Connection, reader: LogReader) -> int:
    """Messages the server has not sent to the reader yet."""
    info = await connection.api(f"CONSUMER.INFO.{reader.stream}.{reader._consumer}")
    return int(info["num_pending"])


async def test_a_lost_consumer_is_replaced_without_gap_or_repeat(
    log: JetStreamLog, pool: Subjects
) -> None:
    async with aclosing(reader := LogReader(log.connection, log.stream, [], 0)):
        assert await sequences(reader, 1) == [1]
        await log.connection.api(f"CONSUMER.DELETE.{log.stream}.{reader._consumer}")
        await fill(log, pool.leader, 3)
        assert await sequences(reader, 3) == [2, 3, 4]


async def test_a_message_lost_on_the_way_is_fetched_again(
    log: JetStreamLog, pool: Subjects
) -> None:
    async with aclosing(reader := LogReader(log.connection, log.stream, [], 0)):
        assert await sequences(reader, 1) == [1]
        handlers = log.connection.nc._handlers
        deliver, dropped = handlers[reader._sid], []

        def drop_one(subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
            if data == b"1" and not dropped:
                dropped.append(data)
            else:
                deliver(subject, reply, data, headers)

        handlers[reader._sid] = drop_one
        await fill(log, pool.leader, 5)
        assert await sequences(reader, 5) == [2, 3, 4, 5, 6]
        assert dropped


async def test_silence_is_noticed_though_the_connection_lives(
    log: JetStreamLog, pool: Subjects
) -> None:
    async with aclosing(reader := LogReader(log.connection, log.stream, [], 0)):
        reader.open()
        assert await sequences(reader, 1) == [1]
        log.connection.nc.post(b"UNSUB %d\r\n" % reader._sid)
        waiting = asyncio.ensure_future(sequences(reader, 2))
        await fill(log, pool.leader, 2)
        assert await waiting == [2, 3]


async def test_a_reader_goes_on_after_the_server_was_killed(
    server: EmbeddedServer, log: JetStreamLog, pool: Subjects
) -> None:
    async with aclosing(log.read([], 0)) as batches:
        assert [m.sequence for m in await anext(batches)] == [1]
        waiting = asyncio.ensure_future(anext(batches))
        server.kill()
        await server.start()
        await log.connection.wait_connected()
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(LogUnavailable):
                    await log.append(pool.leader, b"[]", "the-same")
                    break
            assert [m.sequence for m in await waiting] == [2]


async def test_a_closed_reader_leaves_no_consumer(log: JetStreamLog, pool: Subjects) -> None:
    async with aclosing(log.read([pool.pool_rulings], 0, name="w_w1_inc")) as batches:
        await anext(batches)
        names = (await log.connection.api(f"CONSUMER.NAMES.{log.stream}"))["consumers"]
        assert [name.startswith("w_w1_inc_") for name in names] == [True]
    async with asyncio.timeout(20):  # the server deletes it beside other requests
        while (await log.connection.api(f"CONSUMER.NAMES.{log.stream}"))["consumers"]:
            await log.connection.nc.flush()


async def test_headers_of_others_are_shown_and_our_own_id_is_not(
    log: JetStreamLog, pool: Subjects
) -> None:
    await log.append(pool.leader, b"[]", random_id(26))
    forged = b"NATS/1.0\r\nNats-Stream: X\r\nNats-Sequence:7\r\n\r\n"
    await log.connection.request(pool.leader, b"[]", headers=forged)
    found = [await log.get(2), await log.get(3)]
    async with aclosing(LogReader(log.connection, log.stream, [], 1)) as reader:
        read = []
        while len(read) < 2:
            read += await reader.next_batch()
    assert read == found
    assert [m.headers for m in read] == [None, {"Nats-Stream": "X", "Nats-Sequence": "7"}]


def test_headers_are_parsed_only_when_they_say_more_than_the_id() -> None:
    assert message_headers(None) is None
    assert message_headers(b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n") is None
    assert message_headers(b"NATS/1.0\r\nNats-Msg-Id: x\r\nA: b:c\r\n\r\n") == {
        "Nats-Msg-Id": "x",
        "A": "b:c",
    }


async def test_both_layouts_of_the_delivery_subject_are_understood(log: JetStreamLog) -> None:
    reader = LogReader(log.connection, log.stream, [], 41)
    reader._on_message(b"s", b"$JS.ACK.S.C.1.42.1.1234567890.0", b"a", None)
    reader._on_message(b"s", b"$JS.ACK.dom.hash.S.C.1.43.2.1234567891.0", b"b", None)
    reader._on_message(b"s", b"$JS.ACK.dom.hash.S.C.1.44.3.1234567892.0.rand", b"c", None)
    assert [(m.sequence, m.time_ns) for m in reader._take()] == [
        (42, 1234567890),
        (43, 1234567891),
        (44, 1234567892),
    ]


async def test_a_stream_that_is_not_there_is_named(connection: Connection) -> None:
    log = JetStreamLog(connection, "DTF_nope_LOG")
    with pytest.raises(NotFound, match="DTF_nope_LOG"):
        await log.tail()
    with pytest.raises(NotFound, match="DTF_nope_LOG"):
        await anext(log.read([], 0))
    with pytest.raises(AppendRefused, match="DTF_nope_LOG"):
        await log.append("dtf.nope.leader", b"[]", "x")


async def test_a_lease_watcher_goes_on_after_the_server_was_killed(
    server: EmbeddedServer, connection: Connection, pool: Subjects
) -> None:
    store = JetStreamLease(connection, pool.lease_bucket)
    async with asyncio.timeout(30), aclosing(store.watch()) as states:
        assert await anext(states) == Lease("", 0)
        revision = await store.claim("a", 0, 3_600_000)
        assert revision is not None
        assert await anext(states) == Lease("a", revision)
        waiting = asyncio.ensure_future(anext(states))
        server.kill()
        await server.start()
        await connection.wait_connected()
        renewed = None
        while renewed is None:
            with contextlib.suppress(LogUnavailable):
                renewed = await store.claim("a", revision, 3_600_000)
        assert await waiting == Lease("a", renewed), "the state it knew was not told again"


async def test_a_lease_whose_very_marker_expired_can_be_claimed(connection: Connection) -> None:
    config = {"name": "KV_short", "subjects": ["$KV.short.>"], "max_msgs_per_subject": 1}
    config |= {"allow_msg_ttl": True, "subject_delete_marker_ttl": 1_000_000_000}
    await connection.api("STREAM.CREATE.KV_short", config)
    store = JetStreamLease(connection, "short")
    async with asyncio.timeout(30), aclosing(store.watch()) as states:
        await store.claim("a", 0, 1000)
        state = await anext(states)
        while state.holder or not state.revision:
            state = await anext(states)
        info = await connection.api("STREAM.INFO.KV_short")
        while info["state"]["messages"]:
            info = await connection.api("STREAM.INFO.KV_short")
        assert await store.claim("b", state.revision, 60_000) is not None
