"""A long queue: what it costs to submit, to hold, and to schedule from."""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from ..coordinator.scheduler import Scheduler
from ..core.codec import encode_batch
from ..core.events import Event, LeaderElected, PoolCreated, WorkerJoined
from ..core.fold import Fold
from ..core.ids import random_id
from ..core.model import TaskSpec
from ..core.ports import Message
from ..core.submit import GroupPlan, Submission, json_items, submission_messages
from .figures import Figure, at_least, at_most
from .pool import BenchPool

SPEC = TaskSpec(runner="python", target="dtf.benchmarks.tasks:noop", isolation="none")


def _distinct(tasks: int) -> Submission:
    items = json_items([{"i": number, "name": f"task {number}"} for number in range(tasks)])
    group = GroupPlan(name="queued", spec=SPEC, items=items)
    return Submission(publisher="bench", key=random_id(12), groups=[group], wait_for_capacity=True)


def _array(tasks: int) -> Submission:
    group = GroupPlan(name="array", spec=SPEC, count=tasks)
    return Submission(publisher="bench", key=random_id(12), groups=[group], wait_for_capacity=True)


async def _submit_to_fold(pool: BenchPool, submission: Submission) -> float:
    """Seconds from submit until a fold of the log knows the run as complete."""
    tail = await pool.client.log.tail()
    fold = Fold("main")
    async with aclosing(pool.client.log.read([], 0)) as batches:
        started = 0.0
        async for messages in batches:
            for message in messages:
                fold.apply(message)
            if not started and fold.pool.sequence >= tail.last:
                started = time.perf_counter()
                await pool.client.submit(submission)
            found = fold.pool.runs.get(submission.run)
            if found is not None and found.closed:
                return time.perf_counter() - started
    raise RuntimeError("the log ended")


async def measure_queue(rounds: int, tasks: int = 100_000) -> list[Figure]:
    """W5 of the issue."""
    rates, arrays = [], []
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        async with BenchPool(Path(scratch), workers=0, projector=False) as pool:
            await _submit_to_fold(pool, _array(10))
            before = pool.rss_bytes("coordinator")
            for number in range(rounds):
                rates.append(tasks / await _submit_to_fold(pool, _distinct(tasks)))
                if number == 0:
                    grown = pool.rss_bytes("coordinator") - before
                arrays.append(await _submit_to_fold(pool, _array(tasks)) * 1000)
    ratio = statistics.median(_pass_us(tasks) / _pass_us(100) for _ in range(max(rounds, 3)))
    rate, array_ms = statistics.median(rates), statistics.median(arrays)
    per_task = grown / tasks
    return [
        at_least("100,000 distinct tasks submitted", rate, "tasks/s", 250_000, aim=500_000),
        at_most("memory of the coordinator a queued task", per_task, "bytes", 600, aim=350),
        at_most("scheduling pass, 100,000 queued against 100", ratio, "times", 1.2),
        at_most("100,000 tasks as an array", array_ms, "ms", 10),
    ]


def _pass_us(tasks: int) -> float:
    """Median time of one pass that assigns one task, with `tasks` waiting."""
    fold = Fold("main")
    sequence = 0

    def tell(subject: str, events: list[Event]) -> None:
        nonlocal sequence
        sequence += 1
        judged = fold.apply(Message(sequence, subject, encode_batch(events)))
        if scheduler is not None:
            scheduler.observe(judged, 0.0)

    scheduler: Scheduler | None = None
    tell("dtf.main.pool", [PoolCreated(uuid="u", name="main")])
    tell("dtf.main.leader", [LeaderElected(term=1, coordinator="c", nonce="n")])
    scheduler = Scheduler(fold.pool, fold.subjects, 0.0)
    for subject, events in submission_messages(_distinct(tasks))[1]:
        tell(subject, events)
    gc.collect()
    found = []
    for number in range(60):
        join = WorkerJoined(
            incarnation="i", hardware=["cpu"], cpu_milli=1000, memory_bytes=2**30, prefetch=0
        )
        tell(f"dtf.main.worker.w{number}", [join])
        started = time.perf_counter()
        wave = scheduler.decide(0.0)
        found.append((time.perf_counter() - started) * 1e6)
        for subject, events in wave:
            tell(subject, events)
    return statistics.median(found)
