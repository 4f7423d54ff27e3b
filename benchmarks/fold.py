"""The fold: how fast it replays a log, from memory and from JetStream; what a queued task costs.

Rule: the log is what a busy pool writes (assign, finish, settle in full messages), and reading,
decoding and judging are all in the figure. Rates are per second of one core (CPU time of this
process), so that a busy machine does not move them; the wall clock's rate is in the note.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Raw

from ..core.adapters.jetstream import JetStreamLog
from ..core.adapters.nats_client import connect
from ..core.codec import decode_batch, encode_batch
from ..core.events import (
    AttemptFinished,
    Event,
    LeaderElected,
    PoolCreated,
    RunSealed,
    RunSettled,
    RunSubmitted,
    TaskAssigned,
    TaskSettled,
    TasksSubmitted,
    WorkerJoined,
)
from ..core.fold import Fold
from ..core.ids import random_id, run_id
from ..core.model import TaskSpec, Verdict
from ..core.ports import Message
from ..core.server import EmbeddedServer
from ..core.setup import init_pool
from .figures import Figure, at_least, at_most

TASKS = 50_000
BATCH = 250
RUN = run_id("bench", "fold")
SPEC = TaskSpec(runner="python", target="module:function", isolation="none")
BAR, AIM = 600_000, 1_000_000


def submission(tasks: int) -> Iterator[tuple[str, list[Event]]]:
    """(subject, events) of a run of `tasks` distinct tasks, in parts of 2,000."""
    subject = f"dtf.main.run.bench.{RUN}"
    yield subject, [RunSubmitted(key="fold")]
    for part, start in enumerate(range(0, tasks, 2000)):
        stop = min(start + 2000, tasks)
        items = [Raw(b'{"i":%d,"name":"task %d"}' % (i, i)) for i in range(start, stop)]
        yield subject, [TasksSubmitted(part=part, group=f"g{part}", spec=SPEC, items=items)]
    yield subject, [RunSealed(parts=-(-tasks // 2000), tasks=tasks)]


def history(tasks: int = TASKS, batch: int = BATCH, *, created: bool = False) -> list[Message]:
    """The log of a run from submission to its end; `created`: the pool exists already."""
    said: list[tuple[str, list[Event]]] = []
    if not created:
        said.append(("dtf.main.pool", [PoolCreated(uuid="u", name="main")]))
    said.append(("dtf.main.leader", [LeaderElected(term=1, coordinator="c", nonce="n")]))
    join = WorkerJoined(incarnation="i", hardware=["cpu"], cpu_milli=1000, memory_bytes=2**30)
    said.append(("dtf.main.worker.w", [join]))
    said += submission(tasks)
    names = [f"g{index // 2000}-{index % 2000}" for index in range(tasks)]
    for start in range(0, tasks, batch):
        said += _worked_off(names[start : start + batch], len(said) + 2 + created)
    ended = RunSettled(term=1, verdict="passed", counts={"passed": tasks})
    said.append((f"dtf.main.ruling.{RUN}", [ended]))
    return [
        Message(sequence, subject, encode_batch(events))
        for sequence, (subject, events) in enumerate(said, start=1 + created)
    ]


def _worked_off(names: list[str], sequence: int) -> list[tuple[str, list[Event]]]:
    tokens = [f"{name}.1.1.abcdefgh{number:x}" for number, name in enumerate(names)]
    params, value = Raw(b'{"i":1,"name":"task 1"}'), Raw(b"1")
    given: list[Event] = [
        TaskAssigned(term=1, run=RUN, token=token, incarnation="i", params=params)
        for token in tokens
    ]
    done: list[Event] = [
        AttemptFinished(token=token, verdict=Verdict.PASSED, duration_us=50, value=value)
        for token in tokens
    ]
    settled: list[Event] = [
        TaskSettled(term=1, task=name, verdict=Verdict.PASSED, token=token, at=(sequence, place))
        for place, (name, token) in enumerate(zip(names, tokens, strict=True))
    ]
    return [
        ("dtf.main.assign.cpu.w", given),
        (f"dtf.main.attempt.w.{RUN}", done),
        (f"dtf.main.ruling.{RUN}", settled),
    ]


def _folded(log: list[Message]) -> tuple[int, float]:
    """(events, CPU seconds) of folding the log from memory; every event counted."""
    fold, events = Fold("main"), 0
    started = time.process_time()
    for message in log:
        events += len(fold.apply(message).events)
    seconds = time.process_time() - started
    assert fold.pool.runs[RUN].settled == "passed", fold.pool.voids
    return events, seconds


def _decoded(log: list[Message]) -> float:
    started = time.process_time()
    for message in log:
        decode_batch(message.data)
    return time.process_time() - started


def bytes_a_queued_task(tasks: int = 100_000) -> float:
    """What a distinct task costs the folded state until it is assigned, its parameters included."""
    said = enumerate(submission(tasks), start=3)
    log = [Message(sequence, subject, encode_batch(events)) for sequence, (subject, events) in said]
    fold = Fold("main")
    fold.apply(Message(1, "dtf.main.pool", encode_batch([PoolCreated(uuid="u", name="main")])))
    gc.collect()
    tracemalloc.start()
    try:
        for message in log:  # as a reader gets them: bytes nobody else holds on to
            fold.apply(message._replace(data=bytes(bytearray(message.data))))
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fold.pool.runs[RUN].closed
    return size / tasks


def measure(rounds: int = 5) -> list[dict[str, Any]]:
    """Figures of the fold alone, in this process, without a broker."""
    log = history()
    gc.collect()
    gc.freeze()
    rates, parts = [], []
    for _ in range(rounds):
        decoding = _decoded(log)
        events, seconds = _folded(log)
        rates.append(events / seconds)
        parts.append(decoding / seconds)
    gc.unfreeze()
    return [
        {"name": "fold from memory", "value": statistics.median(rates), "unit": "events/s"},
        {"name": "fold: part that decodes", "value": statistics.median(parts), "unit": "of all"},
        {"name": "fold: state of a queued task", "value": bytes_a_queued_task(), "unit": "bytes"},
    ]


async def replay_rates(log: JetStreamLog, last: int) -> tuple[float, float]:
    """Events read from JetStream and folded up to `last`, a CPU second and a second."""
    fold, events = Fold("main"), 0
    gc.collect()
    gc.freeze()
    started, busy = time.perf_counter(), time.process_time()
    async with aclosing(log.read([], 0)) as batches:
        async for messages in batches:
            for message in messages:
                events += len(fold.apply(message).events)
            if fold.pool.sequence >= last:
                break
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    gc.unfreeze()
    assert fold.pool.runs[RUN].settled == "passed", fold.pool.voids
    return events / busy, events / seconds


async def measure_fold(rounds: int) -> list[Figure]:
    """The bar of the issue: replay from JetStream on one core; and the fold alone."""
    with TemporaryDirectory(prefix="dtf-bench-") as scratch:
        async with EmbeddedServer(Path(scratch), sync_always=False) as server:
            connection = await connect(server.options("bench"))
            await init_pool(connection)
            log = JetStreamLog(connection, "DTF_main_LOG")
            for message in history(created=True):
                stored = await log.append(message.subject, message.data, random_id(26))
            rates = [await replay_rates(log, stored.sequence) for _ in range(rounds)]
            await connection.aclose()
    alone, part, size = (figure["value"] for figure in measure(rounds))
    rate, wall = (statistics.median(each) for each in zip(*rates, strict=True))
    note = f"a core second; {wall:,.0f} by the clock"
    return [
        at_least("fold from JetStream", rate, "events/s", BAR, aim=AIM, note=note),
        Figure(name="fold from memory", value=alone, unit="events/s", note=f"decoding {part:.0%}"),
        at_most("state of the fold a queued task", size, "bytes", 600, aim=350),
    ]
