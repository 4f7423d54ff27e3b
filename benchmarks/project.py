"""The projector from zero: a recorded log into DuckDB, rows counted over all tables.

Rule: reading, decoding, folding, building rows and committing them are all in the figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.adapters.memory import MemoryLog
from ..core.ids import random_id
from ..projections.process import GC_THRESHOLD
from ..projections.projector import Projector
from .figures import Figure, at_least
from .fold import history

BAR = 150_000


async def _rebuild(log: MemoryLog, last: int, database: Path) -> tuple[int, float, float]:
    """(rows, seconds, CPU seconds) from an empty file until every row of the log is committed."""
    projector = Projector(log, None, database, "main")
    started, busy = time.perf_counter(), time.process_time()
    running = asyncio.create_task(projector.run())
    await projector.reached(last)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    with projector.reading() as connection:
        names = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
        ).fetchall()
        counts = [
            connection.execute(f'SELECT count(*) FROM "{schema}"."{name}"').fetchone()
            for schema, name in names
        ]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return sum(count[0] for count in counts if count is not None), seconds, busy


async def measure_project(rounds: int) -> list[Figure]:
    """Rows a second of a rebuild."""
    log = MemoryLog()
    for message in history():
        stored = await log.append(message.subject, message.data, random_id(26))
    gc.set_threshold(GC_THRESHOLD, 50, 100)  # as `dtf projector run` does
    gc.collect()
    gc.freeze()
    rates, costs = [], []
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        for number in range(rounds):
            database = Path(scratch) / f"{number}.duckdb"
            rows, seconds, busy = await _rebuild(log, stored.sequence, database)
            rates.append(rows / seconds)
            costs.append(busy / rows * 1e6)
    gc.unfreeze()
    note = f"{rows:,} rows, {statistics.median(costs):.1f} us CPU each"
    return [
        at_least("projector from zero", statistics.median(rates), "rows/s", BAR, note=note),
    ]
