"""The projector on logs in memory and on a server: the same rows whatever happens on the way."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from dtf.core import events as e
from dtf.core.adapters.jetstream import JetStreamLog
from dtf.core.adapters.memory import MemoryLog
from dtf.core.adapters.nats_client import Connection
from dtf.core.codec import encode_batch
from dtf.core.errors import FoldVersionError, LogGap
from dtf.core.ids import random_id
from dtf.core.ports import EventLog, Message
from dtf.core.subjects import Subjects
from dtf.projections.compare import differences, table_hashes
from dtf.projections.errors import DatabaseBusy, DatabaseForeign
from dtf.projections.projector import Projector, ProjectorOptions
from dtf.projections.queries import open_database_readonly
from projection_world import World

EAGER = ProjectorOptions(
    commit_ms=5, trickle_ms=5, idle_ms=1, rest_ms=1, rows_max=40, snapshot_bytes=2000
)


def memory_log(messages: list[Message]) -> MemoryLog:
    log = MemoryLog()
    log.messages.extend(messages)
    return log


@asynccontextmanager
async def projecting(
    log: EventLog,
    path: Path,
    options: ProjectorOptions = EAGER,
    telemetry: EventLog | None = None,
) -> AsyncIterator[Projector]:
    """A projector that runs in the block; its error, if it has one, comes out of the block."""
    projector = Projector(log, telemetry, path, "main", options)
    task = asyncio.create_task(projector.run())
    try:
        yield projector
    finally:
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def hashes(projector: Projector) -> dict[str, str]:
    with projector.reading() as cursor:
        return table_hashes(cursor)


async def hashes_of(log: EventLog, path: Path) -> dict[str, str]:
    """What a projection from zero holds."""
    async with projecting(log, path, ProjectorOptions()) as projector:
        async with asyncio.timeout(60):
            await projector.reached((await log.tail()).last)
        return hashes(projector)


def hashes_in(path: Path) -> dict[str, str]:
    connection = open_database_readonly(path)
    try:
        return table_hashes(connection)
    finally:
        connection.close()


@pytest.mark.parametrize("seed", range(6))
async def test_rebuild_equals_live(seed: int, tmp_path: Path) -> None:
    """Written while the log grows, with stops at random; then rm the file, and the same rows."""
    log, chance = memory_log([]), random.Random(seed)
    world = World(seed)
    path = tmp_path / "main.duckdb"
    for _ in range(4):
        async with projecting(log, path) as projector:
            for _ in range(chance.randrange(1, 8)):
                have = len(log.messages)
                for message in world.grow(chance.randrange(1, 25))[have:]:
                    log.messages.append(message)
                log._wake()
                if chance.random() < 0.6:
                    await projector.reached(chance.randrange(len(log.messages)) + 1)
    async with projecting(log, path) as projector:
        await projector.reached(len(log.messages))
        live = hashes(projector)
    assert live == hashes_in(path)
    path.unlink()
    assert differences(live, await hashes_of(log, path)) == []
    assert live["fact.voids"] != "0:0000000000000000"


async def test_rm_of_the_file_on_a_real_server_brings_back_the_same_rows(
    connection: Connection, pool: Subjects, tmp_path: Path
) -> None:
    """Done when 5 of the issue, for the projector's half."""
    log = JetStreamLog(connection, pool.log_stream)
    path = tmp_path / "main.duckdb"
    world = World(3)
    world.grow(120)
    async with projecting(log, path) as projector:
        for message in world.log:
            if message.headers is None and pool.parse(message.subject) is not None:
                await log.append(message.subject, message.data, random_id(26))
        await projector.reached((await log.tail()).last)
        live = hashes(projector)
    path.unlink()
    assert differences(live, await hashes_of(log, path)) == []


async def test_a_killed_projector_goes_on_from_its_last_commit(tmp_path: Path) -> None:
    """kill -9 between commits: nothing is missing and nothing is twice."""
    world = World(11)
    log = memory_log(world.grow(200))
    path = tmp_path / "killed.duckdb"
    program = (
        "import asyncio, os, sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from integration.test_projector import EAGER, memory_log\n"
        "from projection_world import World\n"
        "from dtf.projections.projector import Projector\n"
        "log = memory_log(World(11).grow(200)[:150])\n"
        "async def main():\n"
        "    projector = Projector(log, None, Path(sys.argv[1]), 'main', EAGER)\n"
        "    task = asyncio.create_task(projector.run())\n"
        "    await projector.reached(60)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    tests = str(Path(__file__).parents[1])
    argv = [sys.executable, "-c", program, str(path), tests]
    done = await asyncio.to_thread(subprocess.run, argv, check=False)
    assert done.returncode == -9
    async with projecting(log, path) as projector:
        await projector.reached(len(log.messages))
        live = hashes(projector)
    assert differences(live, await hashes_of(log, tmp_path / "cold.duckdb")) == []


async def test_a_second_projector_on_one_file_is_told_who_holds_it(tmp_path: Path) -> None:
    log, path = memory_log(World(1).grow(5)), tmp_path / "one.duckdb"
    async with projecting(log, path) as projector:
        await projector.reached(1)
        with pytest.raises(DatabaseBusy, match=r"one\.duckdb"):
            await Projector(log, None, path, "main").run()
        program = (
            "import sys; from pathlib import Path\n"
            "from dtf.projections.database import open_database\n"
            "from dtf.projections.errors import DatabaseBusy\n"
            "try: open_database(Path(sys.argv[1]))\n"
            "except DatabaseBusy as error: print(error.pid, error, error.remedy)\n"
        )
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        import os

        assert done.stdout.startswith(f"{os.getpid()} ")
        assert "one.duckdb is held by process" in done.stdout


@pytest.mark.parametrize("damage", ["garbage", "half", "header", "empty"])
async def test_a_corrupt_file_is_kept_aside_and_rebuilt(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, path = memory_log(World(2).grow(80)), tmp_path / "main.duckdb"
    before = await hashes_of(log, path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "garbage": b"hello" * 5000,
            "half": whole[: len(whole) // 2],
            "header": whole[:4096] + b"\xff" * 64 + whole[4160:],
            "empty": b"",
        }[damage]
    )
    damaged = path.read_bytes()
    with caplog.at_level(logging.WARNING, "dtf.projector"):
        assert differences(before, await hashes_of(log, path)) == []
    assert (tmp_path / "main.duckdb.broken-1").read_bytes() == damaged
    assert "rebuilt from the log" in caplog.text


async def test_a_file_of_another_log_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "main.duckdb"
    first, second = memory_log(World(4).grow(60)), memory_log(World(5).grow(90))
    await hashes_of(first, path)
    after = await hashes_of(second, path)
    assert (tmp_path / "main.duckdb.other-log-1").exists()
    assert differences(after, await hashes_of(second, tmp_path / "cold.duckdb")) == []


async def test_a_log_that_lost_its_end_is_another_log(tmp_path: Path) -> None:
    """A backup was restored: rows of messages that are gone must not stay."""
    path, messages = tmp_path / "main.duckdb", World(4).grow(60)
    await hashes_of(memory_log(messages), path)
    shorter = memory_log(messages[:20])
    after = await hashes_of(shorter, path)
    assert differences(after, await hashes_of(shorter, tmp_path / "cold.duckdb")) == []


async def test_a_log_that_lost_its_start_stops_a_new_projection(tmp_path: Path) -> None:
    log = memory_log(World(4).grow(60))
    log.purge(10)
    with pytest.raises(LogGap, match="begins at 10"):
        await Projector(log, None, tmp_path / "main.duckdb", "main").run()


async def test_a_file_that_is_no_projection_is_left_alone(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "mine.duckdb"
    connection = duckdb.connect(str(path))
    connection.execute("CREATE TABLE precious (a INTEGER)").fetchall()
    connection.close()
    with pytest.raises(DatabaseForeign, match=r"mine\.duckdb"):
        await Projector(memory_log([]), None, path, "main").run()
    other = tmp_path / "other.duckdb"
    await hashes_of(memory_log(World(4).grow(3)), other)
    with pytest.raises(DatabaseForeign, match="pool 'main', not 'else'"):
        await Projector(memory_log([]), None, other, "else").run()
    connection = duckdb.connect(str(path))
    assert connection.execute("FROM precious").fetchall() == []
    connection.close()


async def test_another_schema_version_is_rebuilt(tmp_path: Path) -> None:
    import duckdb

    log, path = memory_log(World(6).grow(60)), tmp_path / "main.duckdb"
    before = await hashes_of(log, path)
    connection = duckdb.connect(str(path))
    connection.execute("UPDATE keep.position SET schema_version = 99").fetchall()
    connection.close()
    assert differences(before, await hashes_of(log, path)) == []
    assert (tmp_path / "main.duckdb.outdated-1").exists()


async def test_a_corrupt_snapshot_costs_a_fold_from_the_start(tmp_path: Path) -> None:
    import duckdb

    messages = World(7).grow(120)
    log, path = memory_log(messages[:80]), tmp_path / "main.duckdb"
    await hashes_of(log, path)
    connection = duckdb.connect(str(path))
    connection.execute("UPDATE keep.snapshot SET fold = 'nonsense'::BLOB").fetchall()
    connection.close()
    log.messages.extend(messages[80:])
    after = await hashes_of(log, path)
    assert differences(after, await hashes_of(log, tmp_path / "cold.duckdb")) == []


async def test_a_newer_fold_stops_the_projector_with_its_rows_written(tmp_path: Path) -> None:
    world = World(8)
    log, path = memory_log(world.grow(40)), tmp_path / "main.duckdb"
    before = await hashes_of(log, tmp_path / "cold.duckdb")
    term = world.fold.pool.term + 1
    newer = e.LeaderElected(term=term, coordinator="c9", nonce="n", fold_version=99)
    log.write("dtf.main.leader", encode_batch([newer]))
    with pytest.raises(FoldVersionError, match="99"):
        await Projector(log, None, path, "main", EAGER).run()
    assert hashes_in(path) == before


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="needs RLIMIT_FSIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_keeps_the_last_transaction_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ProjectorOptions(trickle_ms=5, idle_ms=1, rest_ms=1, full_ms=20)
    told = asyncio.Event()
    logger = logging.getLogger("dtf.projector")
    monkeypatch.setattr(logger, "filters", [lambda record: told.set() or True])
    messages = World(9).grow(300)
    log, path = memory_log(messages[:40]), tmp_path / "main.duckdb"
    async with projecting(log, path, options) as projector:
        await projector.reached(40)
        with disk_of(path.with_name("main.duckdb.wal").stat().st_size + 100):
            log.messages.extend(messages[40:])
            log._wake()
            await told.wait()
            assert "Free space on that disk" in caplog.text
            assert projector.position == 40
            with projector.reading() as cursor:
                rows = cursor.execute("SELECT position FROM meta").fetchall()
            assert rows == [(40,)]
        async with asyncio.timeout(60):
            await projector.reached(len(messages))
        live = hashes(projector)
    assert "there is space again" in caplog.text
    assert differences(live, await hashes_of(log, tmp_path / "cold.duckdb")) == []


async def test_heartbeats_are_rows_with_a_position_of_their_own(tmp_path: Path) -> None:
    log, telemetry = memory_log(World(1).grow(10)), MemoryLog()
    path = tmp_path / "main.duckdb"
    beat = e.Heartbeat(incarnation="i1", sequence=7, held=["r/t"], running=1, cpu_percent=12.5)
    telemetry.write("dtf.main.beat.w1", encode_batch([beat]))
    telemetry.write("dtf.main.health.c1", encode_batch([beat]))
    telemetry.write("dtf.main.beat.w1", b"garbage")

    async def beats(projector: Projector, count: int) -> list[tuple[object, ...]]:
        sql = "SELECT source, name, log_seq, held, running, cpu_percent, seq FROM heartbeats"
        while True:
            with projector.reading() as cursor:
                rows = cursor.execute(sql).fetchall()
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.01)

    options = ProjectorOptions(trickle_ms=5, idle_ms=1, beats_ms=5)
    for start in range(2):  # the second start repeats none
        async with projecting(log, path, options, telemetry) as projector:
            await projector.reached(1)
            if start:
                telemetry.write("dtf.main.beat.w2", encode_batch([beat]))
            rows = await beats(projector, 2 + start)
            assert len(rows) == 2 + start
    assert rows[0] == ("worker", "w1", 7, 1, 1, 12.5, 1)
    assert rows[1][:2] == ("coordinator", "c1")
