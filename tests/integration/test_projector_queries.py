"""The query service: read-only, bounded, beside the projector; and the file when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from dtf.core import events as e
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.memory import MemoryLog
from dtf.core.adapters.nats_client import Connection, connect
from dtf.core.codec import encode_batch
from dtf.core.errors import NotFound, QueryRefused, Unavailable
from dtf.core.ids import random_id
from dtf.core.query import QueryRequest, Table, ask_query
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects
from dtf.projections.errors import DatabaseBroken, DatabaseBusy, DatabaseForeign
from dtf.projections.projector import Projector
from dtf.projections.queries import open_database_readonly, run_query
from dtf.projections.service import QUERIES_AT_ONCE, WAITING_MAX, QueryService
from projection_world import World

ENDLESS = "SELECT sum(a.range * b.range) FROM range(100000000) a, range(1000000) b"


@asynccontextmanager
async def serving(connection: Connection, log: Any, path: Path) -> AsyncIterator[Projector]:
    """A projector and its service run in the block."""
    projector = Projector(log, None, path, "main")
    service = QueryService(connection, projector)
    tasks = [asyncio.create_task(projector.run()), asyncio.create_task(service.run())]
    try:
        await projector.reached((await log.tail()).last)
        yield projector
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def ask(server: EmbeddedServer, connection: Connection, tmp_path: Path) -> AsyncIterator[Any]:
    """Asks a service over the rows of a random world, from a connection of its own."""
    log = MemoryLog()
    log.messages.extend(World(3).grow(150))
    caller = await connect(server.options("caller"))

    async def query(sql: str, *params: Any, **more: Any) -> Table:
        request = QueryRequest(sql=sql, params=params, **more)
        return await ask_query(caller, Subjects("main").query, request)

    async with serving(connection, log, tmp_path / "main.duckdb"):
        yield query
    await caller.aclose()


async def test_rows_come_with_names_types_and_parameters(ask: Any) -> None:
    table = await ask("SELECT run, tasks, submitted_at FROM runs WHERE tasks >= ? ORDER BY run", 1)
    assert table.columns == ["run", "tasks", "submitted_at"]
    assert table.types == ["VARCHAR", "BIGINT", "TIMESTAMP WITH TIME ZONE"]
    assert table.rows
    assert all(row[1] >= 1 and str(row[2] or "Z").endswith("Z") for row in table.rows)


async def test_values_of_every_type_arrive_as_json(ask: Any) -> None:
    table = await ask(
        "SELECT 1, 1.5::DOUBLE, 'x', NULL, true, [1, 2], {'a': 1}, 1.25::DECIMAL(5, 2), "
        "'nan'::DOUBLE, MAP {1: 2}, DATE '2026-01-02', INTERVAL 5 SECOND, 'ab'::BLOB, "
        "170141183460469231731687303715884105727::HUGEINT, "
        "'e2a1d6d6-0000-4000-8000-000000000000'::UUID, MAP {[1]: 2}"
    )
    assert table.rows == [
        [
            1, 1.5, "x", None, True, [1, 2], {"a": 1}, 1.25, None, {"1": 2}, "2026-01-02", "PT5S",
            "YWI=", 170141183460469231731687303715884105727,
            "e2a1d6d6-0000-4000-8000-000000000000", table.rows[0][-1],
        ]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO fact.forgotten VALUES ('x', 1, 1)",
        "WITH x AS (INSERT INTO fact.forgotten VALUES ('x', 1, 1) RETURNING run) FROM x",
        "EXPLAIN ANALYZE DELETE FROM fact.tasks",
        "DELETE FROM fact.tasks",
        "CREATE TABLE t (a INTEGER)",
        "CREATE TEMP TABLE t (a INTEGER)",
        "DROP VIEW tasks",
        "SET threads = 1",
        "SET lock_configuration = false",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "ATTACH ':memory:' AS m",
        "COPY fact.tasks TO 'stolen.csv'",
        "CHECKPOINT",
        "INSTALL httpfs",
        "COMMIT",
        "SELECT 1; SELECT 2",
        "",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM rows",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT nonsense FROM",
    ],
)
async def test_nothing_but_reading_the_history_is_allowed(ask: Any, sql: str) -> None:
    before = (await ask("SELECT count(*) FROM fact.tasks")).rows
    with pytest.raises(QueryRefused):
        await ask(sql)
    assert (await ask("SELECT count(*) FROM fact.tasks")).rows == before
    assert (await ask("SELECT count(*) FROM fact.forgotten WHERE run = 'x'")).rows == [[0]]


async def test_describe_show_and_explain_work(ask: Any) -> None:
    assert ["tasks"] in (await ask("SHOW TABLES")).rows
    assert "verdict" in [row[0] for row in (await ask("DESCRIBE tasks")).rows]
    assert (await ask("EXPLAIN SELECT 1")).rows


async def test_the_row_limit_cuts_and_says_so(ask: Any) -> None:
    for limit, total, cut in ((10, 11, True), (10, 10, False), (0, 1, True), (2500, 9999, True)):
        table = await ask(f"FROM range({total})", rows_max=limit)
        assert (len(table.rows), table.truncated) == (min(limit, total), cut)
    assert (await ask("FROM range(100000000000)", rows_max=3)).rows == [[0], [1], [2]]


async def test_the_time_limit_stops_a_query(ask: Any) -> None:
    with pytest.raises(QueryRefused, match="time limit"):
        await ask(ENDLESS, timeout_ms=100)
    assert (await ask("SELECT 1")).rows == [[1]]


async def test_large_answers_come_in_many_messages(ask: Any) -> None:
    table = await ask("SELECT range AS n, repeat('x', 1000) AS t FROM range(5000)")
    assert [row[0] for row in table.rows] == list(range(5000))
    assert not table.truncated


async def test_a_row_that_no_message_holds_is_refused(ask: Any) -> None:
    with pytest.raises(QueryRefused, match="one row has"):
        await ask("SELECT repeat('x', 3000000)")


async def test_a_query_that_fails_late_is_an_error_not_a_short_answer(ask: Any) -> None:
    late = "SELECT CASE WHEN range > 150000 THEN error('late') END FROM range(200000)"
    with pytest.raises(QueryRefused, match="late"):
        await ask(late, rows_max=1_000_000)


async def test_garbage_gets_an_answer(
    ask: Any, connection: Connection, server: EmbeddedServer
) -> None:
    caller = await connect(server.options("rude"))
    for garbage in (b"", b"\xff", b"[]", b'{"sql": 1}', b'{"nosql": "x"}'):
        answer = msgspec.json.decode(await caller.request(Subjects("main").query, garbage))
        assert answer["error"]["code"] == "request"
    await caller.aclose()
    assert (await ask("SELECT 1")).rows == [[1]]


async def test_too_many_queries_are_refused_at_once_and_the_rest_answered(ask: Any) -> None:
    count = QUERIES_AT_ONCE + WAITING_MAX + 20
    slow = "SELECT sum(range) FROM range(3000000)"
    answers = await asyncio.gather(*[ask(slow) for _ in range(count)], return_exceptions=True)
    refused = [each for each in answers if isinstance(each, QueryRefused)]
    assert all("too many queries" in str(each) for each in refused)
    assert len(refused) + sum(isinstance(each, Table) for each in answers) == count
    assert 0 < len(refused) <= 20


async def test_a_caller_reads_its_own_writes(
    connection: Connection, pool: Subjects, tmp_path: Path
) -> None:
    log = JetStreamLog(connection, pool.log_stream)
    async with serving(connection, log, tmp_path / "main.duckdb"):
        for term in range(1, 6):
            event = e.LeaderElected(term=term, coordinator="c", nonce="n")
            stored = await log.append(pool.leader, encode_batch([event]), random_id(26))
            sql = "SELECT max(term) FROM leaders"
            request = QueryRequest(sql=sql, at_least=stored.sequence)
            assert (await ask_query(connection, pool.query, request)).rows == [[term]]
        late = QueryRequest(sql="SELECT 1", at_least=10_000, timeout_ms=50)
        with pytest.raises(QueryRefused, match="waiting"):
            await ask_query(connection, pool.query, late)


async def test_a_query_does_not_hold_up_projecting(
    connection: Connection, pool: Subjects, tmp_path: Path
) -> None:
    log = JetStreamLog(connection, pool.log_stream)
    async with serving(connection, log, tmp_path / "main.duckdb") as projector:
        request = QueryRequest(sql=ENDLESS, timeout_ms=60_000)
        queries = [
            asyncio.create_task(ask_query(connection, pool.query, request))
            for _ in range(QUERIES_AT_ONCE)
        ]
        event = e.LeaderElected(term=1, coordinator="c", nonce="n")
        stored = await log.append(pool.leader, encode_batch([event]), random_id(26))
        async with asyncio.timeout(30):
            await projector.reached(stored.sequence)
        assert not any(query.done() for query in queries)
        for query in queries:
            query.cancel()
        await asyncio.wait(queries)
    # leaving the block interrupts them: otherwise this test would take for ever


async def test_damage_that_only_a_query_meets_is_mended(
    connection: Connection, pool: Subjects, tmp_path: Path
) -> None:
    """A bad block is refused once; the file is rebuilt, and the same query answers."""
    log, path = MemoryLog(), tmp_path / "main.duckdb"
    log.messages.extend(World(3).grow(150))
    sql = "SELECT count(token), count(value) FROM fact.attempts"
    request = QueryRequest(sql=sql, at_least=len(log.messages), timeout_ms=60_000)
    async with serving(connection, log, path):
        before = await ask_query(connection, pool.query, request)
    damage_a_block(path, sql)
    async with serving(connection, log, path):
        with pytest.raises(QueryRefused, match="Corrupt"):
            await ask_query(connection, pool.query, request)
        async with asyncio.timeout(60):
            while True:
                try:
                    after = await ask_query(connection, pool.query, request)
                    break
                except QueryRefused:  # the file is being replaced
                    await asyncio.sleep(0.01)
    assert after.rows == before.rows
    assert (tmp_path / "main.duckdb.broken-1").exists()


def damage_a_block(path: Path, sql: str) -> None:
    """A block that only `sql` reads is overwritten: the file opens, the query fails."""
    whole = path.read_bytes()
    block, headers = 256 * 1024, 3 * 4096
    for start in range(headers, len(whole), block):
        end = min(start + block, len(whole))
        path.write_bytes(
            whole[: start + 100] + b"\xff" * 64 + whole[start + 164 : end] + whole[end:]
        )
        try:
            connection = open_database_readonly(path)
        except DatabaseBroken:
            continue
        try:
            run_query(connection, sql)
        except QueryRefused:
            return
        finally:
            connection.close()
    raise AssertionError("no block of this file is read by the query alone")


async def test_without_a_service_the_asker_is_told(connection: Connection, pool: Subjects) -> None:
    with pytest.raises(Unavailable, match="no query service"):
        await ask_query(connection, pool.query, QueryRequest(sql="SELECT 1"))


async def test_the_file_answers_when_no_projector_runs(tmp_path: Path) -> None:
    log, path = MemoryLog(), tmp_path / "main.duckdb"
    log.messages.extend(World(3).grow(100))
    with pytest.raises(NotFound, match=r"main\.duckdb"):
        open_database_readonly(path)
    projector = Projector(log, None, path, "main")
    task = asyncio.create_task(projector.run())
    await projector.reached(len(log.messages))
    with pytest.raises(DatabaseBusy, match=r"main\.duckdb is held"):
        open_database_readonly(path)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    connection = open_database_readonly(path)
    try:
        assert run_query(connection, "SELECT position FROM meta").rows == [[len(log.messages)]]
        for sql in ("INSERT INTO fact.forgotten VALUES ('x', 1, 1)", "SET threads = 1"):
            with pytest.raises(QueryRefused):
                run_query(connection, sql)
        with pytest.raises(QueryRefused, match="time limit"):
            run_query(connection, ENDLESS, timeout_s=0.05)
    finally:
        connection.close()


def test_another_file_is_not_taken_for_a_history(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "mine.duckdb"
    duckdb.connect(str(path)).close()
    with pytest.raises(DatabaseForeign, match="no projection"):
        open_database_readonly(path)
