"""Tasks a second, and the latency of one: dtf whole (fsync, history, results) against the bare
broker."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.ids import random_id
from ..core.model import TaskSpec
from ..core.submit import GroupPlan, Submission, json_items
from .bare import BareRoundTrip, subprocess_loop
from .figures import Figure, at_most, quantile, times
from .pool import BenchPool

NOOP = TaskSpec(runner="python", target="dtf.benchmarks.tasks:noop", isolation="none")
TRUE = TaskSpec(command=["/bin/true"])
PAUSE_S = 0.02


def noops(tasks: int) -> Submission:
    """A run of distinct no-op Python tasks, in-process."""
    items = json_items([{"i": number} for number in range(tasks)])
    group = GroupPlan(name="noop", spec=NOOP, items=items)
    return Submission(publisher="bench", key=random_id(12), groups=[group])


async def run_to_last_row(pool: BenchPool, submission: Submission) -> tuple[float, float]:
    """(seconds, CPU seconds) from the submission until every result is here and in DuckDB."""
    cpu, started = pool.cpu_s(), time.perf_counter()
    client = pool.client
    run = await client.submit(submission)
    async with aclosing(client.follow(run, keep_values=True)) as views:
        async for view in views:
            if view.done:
                break
    returned = len(view.values)
    if view.counts != {"passed": submission.tasks} or returned != submission.tasks:
        raise RuntimeError(f"expected {submission.tasks} results, got {returned}, {view.counts}")
    table = await client.query(
        "SELECT count(*) FROM tasks WHERE run = ? AND verdict = 'passed'",
        [run],
        at_least=view.sequence,
    )
    seconds = time.perf_counter() - started
    if table.rows[0][0] != submission.tasks:
        raise RuntimeError(f"DuckDB has {table.rows[0][0]} of {submission.tasks} rows")
    return seconds, pool.cpu_s() - cpu


async def latencies_ms(pool: BenchPool, number: int) -> list[float]:
    """Milliseconds from submit to settled of single no-op tasks on the idle pool."""
    found = []
    client, log = pool.client, pool.client.log
    for _ in range(number):
        submission = noops(1)
        tail = (await log.tail()).last
        ruling = [client.subjects.ruling(submission.run)]
        async with aclosing(log.read(ruling, tail)) as batches:
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(PAUSE_S)  # the reader's consumer is made: the pool is idle
            started = time.perf_counter()
            await client.submit(submission)
            await waiting  # the first ruling on the run settles its task
            found.append((time.perf_counter() - started) * 1000)
    return found


async def measure_tasks(rounds: int, tasks: int = 20_000) -> list[Figure]:
    """W1 and W2 of the issue."""
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        base = Path(scratch)
        for name in ("pool", "bare", "bare-fsync"):
            (base / name).mkdir()
        async with BenchPool(base / "pool") as pool:
            await run_to_last_row(pool, noops(2000))
            pairs, cpus, ours, theirs = [], [], [], []
            async with BareRoundTrip(base / "bare", fsync=False) as bare:
                await bare.run(1000)
                for _ in range(rounds):
                    before = await bare.run(5000)
                    seconds, cpu = await run_to_last_row(pool, noops(tasks))
                    after = await bare.run(5000)
                    pairs.append((tasks / seconds, (before + after) / 2))
                    cpus.append(cpu / tasks * 1e6)
            async with BareRoundTrip(base / "bare-fsync", fsync=True) as bare:
                await bare.latencies_ms(50)
                for _ in range(rounds):
                    theirs.append(quantile(await bare.latencies_ms(100), 0.5))
                    ours.append(await latencies_ms(pool, 100))
            spawn = await _processes(pool, rounds)
    p50 = [(quantile(a, 0.5), b) for a, b in zip(ours, theirs, strict=True)]
    everything = [value for part in ours for value in part]
    return [
        times(
            "no-op tasks, to last row in DuckDB", pairs, "tasks/s",
            "bare JetStream round trip, no fsync", 2.0, aim=3.0,
        ),
        at_most("CPU a no-op task, all processes", quantile(cpus, 0.5), "us", 60, aim=35),
        times(
            "idle latency p50, submit to settled", p50, "ms",
            "bare fsync'ed round trip", 2.5, aim=1.7, lower=True,
        ),
        at_most("idle latency p99", quantile(everything, 0.99), "ms", 8),
        spawn,
    ]  # fmt: skip


async def _processes(pool: BenchPool, rounds: int, tasks: int = 500) -> Figure:
    """W3: /bin/true with isolation, captured output, usage and events."""
    await run_commands(pool, 50)
    pairs = []
    for _ in range(rounds):
        before = subprocess_loop(300)
        rate = await run_commands(pool, tasks)
        after = subprocess_loop(300)
        pairs.append((rate, (before + after) / 2))
    return times(
        f"{tasks} /bin/true tasks on {os.cpu_count()} cores", pairs, "tasks/s",
        "serial subprocess.run loop", 1.2, aim=1.5,
    )  # fmt: skip


async def run_commands(pool: BenchPool, tasks: int) -> float:
    """Tasks a second of `tasks` processes, submit to settled."""
    group = GroupPlan(name="true", spec=TRUE, count=tasks)
    submission = Submission(publisher="bench", key=random_id(12), groups=[group])
    started = time.perf_counter()
    run = await pool.client.submit(submission)
    async with aclosing(pool.client.follow(run)) as views:
        async for view in views:
            if view.done:
                break
    if view.counts != {"passed": tasks}:
        raise RuntimeError(f"not all passed: {view.counts}")
    return tasks / (time.perf_counter() - started)
