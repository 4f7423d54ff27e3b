"""How long until a task of a dead or frozen worker runs elsewhere, at default settings."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from ..core.ids import random_id
from ..core.model import TaskSpec
from ..core.submit import GroupPlan, Submission, json_items
from .figures import Figure, at_most, quantile
from .pool import BenchPool

HOLD = TaskSpec(runner="python", target="dtf.benchmarks.tasks:touch_and_hold", infra_retries=9)


async def measure_loss(rounds: int) -> list[Figure]:
    """W6: kill -9 and SIGSTOP of a worker in the middle of a task."""
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        base = Path(scratch)
        async with BenchPool(base) as pool:
            killed = [await _move(pool, base, signal.SIGKILL) for _ in range(rounds)]
            frozen = [await _move(pool, base, signal.SIGSTOP)]
    note = "by the log's clock"
    kill, stop = quantile(killed, 0.5), quantile(frozen, 0.5)
    return [
        at_most("kill -9 of a worker: task goes elsewhere", kill, "s", 0.05, aim=0.01, note=note),
        at_most("SIGSTOP of a worker: task goes elsewhere", stop, "s", 5.0, note=note),
    ]


async def _move(pool: BenchPool, base: Path, how: signal.Signals) -> float:
    """Seconds from the signal to the assignment of the next attempt."""
    path = base / f"touched-{random_id(6)}"
    items = json_items([{"path": str(path), "seconds": 600.0}])
    submission = Submission(
        publisher="bench",
        key=random_id(12),
        groups=[GroupPlan(name="hold", spec=HOLD, items=items)],
    )
    run = await pool.client.submit(submission)
    victim = ""
    moved = 0.0
    struck_ns = 0
    async with aclosing(pool.client.log.read([], 0)) as batches:
        async for messages in batches:
            for message in messages:
                if (
                    f'"run":"{run}"' not in message.data.decode()
                    or ".assign." not in message.subject
                ):
                    continue
                worker = message.subject.split(".")[-1]
                if b"AttemptRevoked" in message.data:
                    continue
                if not victim:
                    victim = worker
                    await _until(path.exists)
                    struck_ns = time.time_ns()
                    os.kill(pool.processes[victim].pid, how)
                elif worker != victim:
                    moved = (message.time_ns - struck_ns) / 1e9
            if moved:
                break
    await pool.client.cancel(run)
    process = pool.processes.pop(victim)
    if how is signal.SIGSTOP:
        process.kill()
    process.wait()
    pool.start_worker(f"{victim}-{random_id(4)}")
    async with aclosing(pool.client.follow(run)) as views:
        async for view in views:
            if view.done:
                break
    await pool.ready(2)
    return moved


async def _until(fact: Callable[[], bool]) -> None:
    while not fact():  # noqa: ASYNC110 a file has no event
        await asyncio.sleep(0.005)
