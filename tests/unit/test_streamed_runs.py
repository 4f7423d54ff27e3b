"""Runs whose parts land while they run: tasks start at once, the end waits for the seal."""

from __future__ import annotations

import pytest
from dtf.core import events as e
from dtf.core.ids import run_id
from dtf.core.invariants import check
from dtf.core.model import TaskSpec, Verdict
from dtf.core.open_run import OpenRun
from dtf.core.subjects import Subjects
from msgspec import Raw

from .test_scheduler import World

SPEC = TaskSpec(runner="python", target="m:f", isolation="none")


@pytest.fixture
def world() -> World:
    return World()


def begin(world: World, key: str = "k") -> str:
    rid = run_id("me", key)
    world.append(f"run.me.{rid}", [e.RunSubmitted(key=key, streamed=True)])
    return rid


def part(world: World, rid: str, number: int, tasks: int = 1, **how: str) -> None:
    items = [Raw(b'{"i":%d}' % i) for i in range(tasks)]
    event = e.TasksSubmitted(part=number, group=f"s{number}", spec=SPEC, items=items)
    world.append(f"run.me.{rid}", [event], **how)  # type: ignore[arg-type]


def seal(world: World, rid: str, parts: int, tasks: int) -> None:
    world.append(f"run.me.{rid}", [e.RunSealed(parts=parts, tasks=tasks)])


def test_tasks_run_before_the_seal_and_the_run_ends_after_it(world: World) -> None:
    world.join("w")
    rid = begin(world)
    part(world, rid, 0, 3)
    world.run_all()
    run = world.pool.runs[rid]
    assert run.counts == {"passed": 3}
    assert not run.settled, "more may follow"
    part(world, rid, 1, 2)
    world.run_all()
    seal(world, rid, 2, 5)
    world.settle()
    assert run.settled == "passed"
    assert run.counts == {"passed": 5}
    check(world.pool)


def test_parts_that_land_before_the_head_run_with_it(world: World) -> None:
    world.join("w")
    rid = run_id("me", "k")
    part(world, rid, 0)
    world.settle()
    assert not world.held["w"], "nobody knows yet whether it streams"
    begin(world)
    world.settle()
    assert len(world.held["w"]) == 1


def test_another_leader_goes_on_in_mid_stream(world: World) -> None:
    world.join("w")
    rid = begin(world)
    part(world, rid, 0, 2)
    world.settle()
    world.elect("other")
    world.run_all()
    part(world, rid, 1)
    world.run_all()
    seal(world, rid, 2, 3)
    world.settle()
    assert world.pool.runs[rid].settled == "passed"


def test_a_cancelled_stream_stops_what_runs_and_what_lands_later(world: World) -> None:
    world.join("w")
    rid = begin(world)
    part(world, rid, 0, 3)
    world.settle()
    world.append(f"run.me.{rid}", [e.CancelRequested()])
    world.settle()
    assert [revoked.mode for revoked in world.revoked] == ["cancel"]
    part(world, rid, 1)
    world.finish("w", verdict=Verdict.CANCELLED)
    world.settle()
    run = world.pool.runs[rid]
    assert run.settled == "cancelled"
    assert run.counts == {"cancelled": 4}
    check(world.pool)


def test_a_stream_nobody_extends_is_settled_as_incomplete(world: World) -> None:
    world.join("w")
    rid = begin(world)
    part(world, rid, 0)
    world.settle()
    world.now += world.pool.incomplete_ms / 1000 + 1
    world.settle()
    assert not world.pool.runs[rid].settled, "its task still runs"
    world.finish("w")
    world.settle()
    world.now += world.pool.incomplete_ms / 1000 + 1
    world.settle()
    assert world.pool.runs[rid].settled == "incomplete"
    check(world.pool)


def test_a_stream_sealed_with_wrong_counts_is_refused_and_its_attempts_end(world: World) -> None:
    world.join("w")
    rid = begin(world)
    part(world, rid, 0, 2)
    world.settle()
    seal(world, rid, 1, 7)
    world.settle()
    assert world.pool.runs[rid].settled == "rejected"
    assert [revoked.mode for revoked in world.revoked] == ["cancel"]
    world.finish("w", verdict=Verdict.CANCELLED)
    check(world.pool)
    assert not world.pool.open


def test_no_verdict_ends_a_stream_while_tasks_are_unsettled(world: World) -> None:
    world.join("w")
    rid = begin(world)
    part(world, rid, 0)
    ruling = e.RunSettled(term=world.pool.term, verdict="incomplete", counts={})
    world.append(f"ruling.{rid}", [ruling], void="unsettled_tasks")


class Recorder:
    """Stands for a client: keeps what would be stored."""

    subjects = Subjects("main")

    def __init__(self) -> None:
        self.stored: list[tuple[str, tuple[e.Event, ...]]] = []

    async def put_event(self, subject: str, *events: e.Event) -> int:
        self.stored.append((subject, events))
        return len(self.stored)


async def test_an_open_run_is_what_the_fold_takes(world: World) -> None:
    world.join("w")
    recorder = Recorder()
    run = OpenRun(recorder, publisher="me", key="k", name="suite")
    first = await run.add(SPEC, [{"i": 1}, {"i": 2}])
    second = await run.add(SPEC, [{"i": 3}], last=True)
    await run.seal()
    assert [*first, *second] == ["s0-0", "s0-1", "s1-0"]
    assert len(recorder.stored) == 2, "head and first part share a message; sealed once"
    for subject, events in recorder.stored:
        world.append(subject.removeprefix("dtf.main."), list(events))
    world.run_all()
    assert world.pool.runs[run.run].settled == "passed"


async def test_a_long_list_is_cut_and_every_task_keeps_its_place(world: World) -> None:
    recorder = Recorder()
    run = OpenRun(recorder, publisher="me", key="k")
    tasks = await run.add(SPEC, [{"ids": "x" * 5000, "i": i} for i in range(400)], last=True)
    assert len(set(tasks)) == 400
    found = []
    for subject, events in recorder.stored:
        world.append(subject.removeprefix("dtf.main."), list(events))
        found += [
            item for event in events if isinstance(event, e.TasksSubmitted) for item in event.items
        ]
    assert world.pool.runs[run.run].closed
    assert [b'"i":%d}' % i in bytes(item) for i, item in enumerate(found)] == [True] * 400
