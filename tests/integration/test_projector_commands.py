"""The commands of this room as people type them: server, projector process, file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from dtf.core import events as e
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.nats_client import Connection
from dtf.core.codec import encode_batch
from dtf.core.ids import random_id
from dtf.core.query import QueryRequest, ask_query
from dtf.core.server import EmbeddedServer
from dtf.core.subjects import Subjects
from projection_world import World


class Here:
    """Runs `dtf` with the test's server and data directory."""

    def __init__(self, server: EmbeddedServer, data_dir: Path) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DTF_")}
        self.env = kept | {
            "DTF_SERVER": server.url,
            "DTF_USER": str(server.user),
            "DTF_PASSWORD": str(server.password),
            "DTF_DATA_DIR": str(data_dir),
            "NO_COLOR": "1",
        }

    async def dtf(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "dtf", *words],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    async def json(self, *words: str) -> Any:
        done = await self.dtf(*words, "--json")
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout)


@pytest.fixture
async def here(
    server: EmbeddedServer, connection: Connection, pool: Subjects, tmp_path: Path
) -> Here:
    """A pool with the log of a random world."""
    log = JetStreamLog(connection, pool.log_stream)
    for message in World(3).grow(120):
        if message.headers is None and pool.parse(message.subject) is not None:
            await log.append(message.subject, message.data, random_id(26))
    return Here(server, tmp_path / "data")


async def test_from_projector_to_rebuild(
    here: Here, connection: Connection, pool: Subjects, tmp_path: Path
) -> None:
    """projector run; sql, reports and audit while it runs and after; projector rebuild."""
    last = (await JetStreamLog(connection, pool.log_stream).tail()).last
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dtf", "projector", "run", env=here.env, stderr=subprocess.PIPE
    )
    try:
        await answering(connection, pool, last)
        rows = (await here.json("sql", "SELECT position, uuid FROM meta"))["rows"]
        assert rows == [{"position": last, "uuid": rows[0]["uuid"]}]
        busy = await here.dtf("projector", "rebuild")
        assert busy.returncode == 3
        assert str(process.pid) in busy.stderr
        runs = (await here.json("sql", "SELECT run, tasks FROM runs ORDER BY run_pos"))["rows"]
        await reports(here, runs[0]["run"], tmp_path)
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    # The projector is gone: the same questions go to the file.
    assert (await here.json("sql", "SELECT position FROM meta"))["rows"] == [{"position": last}]
    rebuilt = await here.json("projector", "rebuild")
    assert (rebuilt["position"], rebuilt["same_rows"]) == (last, True)
    assert (await here.json("sql", "SELECT run, tasks FROM runs ORDER BY run_pos"))["rows"] == runs


async def answering(connection: Connection, pool: Subjects, last: int) -> None:
    """Returns once the service answers about the log's end."""
    from dtf.core.errors import Unavailable

    async with asyncio.timeout(60):
        while True:
            try:
                request = QueryRequest(sql="SELECT 1", at_least=last, timeout_ms=30_000)
                await ask_query(connection, pool.query, request)
                return
            except Unavailable:
                await asyncio.sleep(0.05)


async def reports(here: Here, run: str, tmp_path: Path) -> None:
    junit = await here.dtf("report", "junit", run)
    assert ET.fromstring(junit.stdout).tag == "testsuites"
    file = tmp_path / "out" / "report.md"
    done = await here.dtf("report", "md", run[:20], "--file", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert file.read_text().startswith("## ")
    document = msgspec.json.decode((await here.dtf("report", "json", run)).stdout)
    assert document["run"]["run"] == run
    assert (await here.dtf("report", "md", "last")).returncode == 0
    missing = await here.dtf("report", "junit", "nosuchrun")
    assert missing.returncode == 2
    assert "dtf runs ls" in missing.stderr


async def test_sql_in_every_format_and_its_refusals(
    here: Here, connection: Connection, pool: Subjects
) -> None:
    nobody = await here.dtf("sql", "SELECT 1")
    assert nobody.returncode == 3
    assert "dtf projector run" in nobody.stderr
    # made by a rebuild, read from the file
    assert (await here.json("projector", "rebuild"))["same_rows"] is None
    csv = await here.dtf("sql", "SELECT 1 AS a, 'x' AS b, NULL AS a", "-o", "csv")
    assert csv.stdout == "a,b,a_2\n1,x,\n"
    table = await here.dtf("sql", "FROM range(30)", "--max-rows", "2")
    assert table.stdout.split() == ["range", "0", "1"]
    assert "first 2 rows" in table.stderr
    from_stdin = await here.dtf("sql", "-o", "jsonl", stdin="SELECT 7 AS n")
    assert msgspec.json.decode(from_stdin.stdout) == {"schema": "dtf.sql/1", "n": 7}
    refused = await here.dtf("sql", "DROP TABLE fact.tasks")
    assert refused.returncode == 1
    assert "read-only" in refused.stderr
    slow = await here.dtf("sql", "SELECT sum(a.range) FROM range(1e9::INT) a, range(1e9::INT) b",
                          "--timeout", "0.2")  # fmt: skip
    assert "time limit" in slow.stderr


async def test_audit_tail_shows_what_counts_and_what_does_not(
    here: Here, connection: Connection, pool: Subjects
) -> None:
    log = JetStreamLog(connection, pool.log_stream)
    await log.append(pool.leader, b"[{garbage", random_id(26))
    stale = e.LeaderElected(term=1, coordinator="late", nonce="n")
    last = await log.append(pool.leader, encode_batch([stale]), random_id(26))
    rows = (await here.json("audit", "tail", "--last", "2"))["rows"]
    assert [(r["sequence"], r["type"], r["void"]) for r in rows] == [
        (last.sequence - 1, None, "not_json"),
        (last.sequence, "LeaderElected", "term"),
    ]
    assert '"coordinator":"late"' in rows[1]["content"]
    elected = (await here.json("audit", "tail", "--kinds", "leaderelected", "-n", "1000"))["rows"]
    assert {r["type"] for r in elected} == {"LeaderElected"}
    assert sum(r["void"] is None for r in elected) >= 1
    unknown = await here.dtf("audit", "tail", "--kinds", "Nonsense")
    assert unknown.returncode == 2
    assert "TaskSettled" in unknown.stderr
    rows = (await here.json("audit", "tail", "--from", str(last.sequence)))["rows"]
    assert [r["sequence"] for r in rows] == [last.sequence]


async def test_audit_follow_prints_events_as_they_come(
    here: Here, connection: Connection, pool: Subjects
) -> None:
    log = JetStreamLog(connection, pool.log_stream)
    argv = [sys.executable, "-m", "dtf", "audit", "tail", "-n", "1", "--follow", "-o", "jsonl"]
    process = await asyncio.create_subprocess_exec(*argv, env=here.env, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            first = msgspec.json.decode(await process.stdout.readline())
            event = e.DrainRequested(worker="nobody")
            stored = await log.append(pool.pool_rulings, encode_batch([event]), random_id(26))
            second = msgspec.json.decode(await process.stdout.readline())
        assert first["sequence"] == stored.sequence - 1
        assert (second["sequence"], second["void"]) == (stored.sequence, "unknown_worker")
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
