"""Runs, from submission to oblivion (protocol S1, S2, S5, F13)."""

from __future__ import annotations

from itertools import permutations

import pytest
from dtf.core import events as e
from dtf.core.codec import encode_batch
from dtf.core.ids import run_id
from dtf.core.model import RUN_TASKS_MAX, Axis, Cause, TaskSpec, Verdict
from msgspec import Raw
from worlds import SPEC, World, message

RUN = run_id("me", "k")
MINE = f"run.me.{RUN}"
SUBMITTED = e.RunSubmitted(key="k")
PARTS = [e.TasksSubmitted(part=n, group=f"g{n}", spec=SPEC, count=n + 1) for n in range(2)]
SEALED = e.RunSealed(parts=2, tasks=3)


@pytest.fixture
def world() -> World:
    return World()


# -- S1 --------------------------------------------------------------------------------------------
def test_s1_a_run_id_is_derived_from_publisher_and_key(world: World) -> None:
    world.void("bad_run_id", MINE, e.RunSubmitted(key="other"))
    world.void("bad_run_id", f"run.you.{RUN}", SUBMITTED)
    world.valid(MINE, SUBMITTED)
    assert world.run(RUN).publisher == "me"


def test_s1_only_the_owner_or_an_admin_extends_seals_or_cancels(world: World) -> None:
    world.valid(MINE, SUBMITTED)
    words = [*PARTS, SEALED, e.CancelRequested()]
    world.void("not_owner", f"run.you.{RUN}", *words)
    world.valid(f"run.admin.{RUN}", *words)
    assert world.run(RUN).closed
    assert world.run(RUN).cancel_at


def test_s1_who_is_an_admin_is_a_setting(world: World) -> None:
    world.valid("pool", e.PoolConfigured(admins=["boss"]))
    world.valid(MINE, SUBMITTED)
    world.void("not_owner", f"run.admin.{RUN}", e.CancelRequested())
    world.valid(f"run.boss.{RUN}", e.CancelRequested())


def test_s1_a_stranger_who_was_first_loses_the_run_to_its_owner(world: World) -> None:
    theirs = f"run.you.{RUN}"
    world.valid(theirs, PARTS[1], e.RunSealed(parts=1, tasks=2))
    world.void("not_owner", MINE, PARTS[0])  # not yet known to be the owner: told, and sent again
    world.valid(MINE, SUBMITTED)
    assert world.run(RUN).groups == {}
    world.void("not_owner", theirs, PARTS[1], e.CancelRequested())
    world.valid(MINE, *PARTS, SEALED)
    assert world.run(RUN).closed


def test_s1_an_admin_has_no_more_right_than_others_to_a_run_nobody_owns_yet(world: World) -> None:
    world.valid(f"run.you.{RUN}", PARTS[0])
    world.void("not_owner", f"run.admin.{RUN}", PARTS[1])


# -- S2 --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_s2_events_of_a_submission_land_in_any_order_and_twice(
    world: World, order: tuple[int, ...]
) -> None:
    events = [SUBMITTED, *PARTS, SEALED]
    for place in order:
        assert not (RUN in world.pool.runs and world.run(RUN).closed)
        world.valid(MINE, events[place])
        world.void("duplicate", MINE, events[place])
    run = world.run(RUN)
    assert (run.closed, run.closed_at, run.size) == (True, len(world.log) - 1, 3)
    world.void("duplicate", MINE, *events)


def test_s2_one_message_is_the_normal_case(world: World) -> None:
    world.valid(MINE, SUBMITTED, *PARTS, SEALED)
    assert world.run(RUN).closed


def test_s2_the_same_key_with_other_content_is_a_conflict(world: World) -> None:
    world.valid(MINE, SUBMITTED, PARTS[0], SEALED)
    others = [
        e.RunSubmitted(key="k", priority=1),
        e.TasksSubmitted(part=0, group="g0", spec=SPEC, count=2),
        e.RunSealed(parts=2, tasks=4),
    ]
    world.void("conflict", MINE, *others)
    world.valid(MINE, PARTS[1])
    world.void("conflict", MINE, *others)
    world.void("run_closed", MINE, e.TasksSubmitted(part=7, group="late", spec=SPEC))


BAD_PARTS = [
    {"spec": TaskSpec(command=[])},
    {"spec": TaskSpec(runner="python")},
    {"spec": TaskSpec(command=["a"], isolation="none")},
    {"spec": TaskSpec(runner="python", target="a.py", isolation="none")},
    {"spec": SPEC, "count": 1, "items": [Raw(b"{}")]},
    {"spec": SPEC, "count": 1, "axes": [Axis(name="a", values=[Raw(b"1")])]},
    {"spec": SPEC, "axes": [Axis(name="a", values=[Raw(b"1")])] * 2},
    {"spec": SPEC, "axes": [Axis(name=f"a{n}", values=[Raw(b"1")] * 1000) for n in range(16)]},
    {"spec": SPEC, "items": [Raw(b"{}"), Raw(b"1")]},
    {"spec": SPEC, "items": [Raw(b"[]")]},
    {"spec": SPEC, "group": "g0"},
]


@pytest.mark.parametrize("part", BAD_PARTS)
def test_s2_one_invalid_part_dooms_the_run(world: World, part: dict[str, object]) -> None:
    world.valid(MINE, SUBMITTED, PARTS[0])
    bad = e.TasksSubmitted(**{"part": 1, "group": "bad", **part})  # type: ignore[arg-type]
    world.void("bad_part", MINE, bad)
    assert "part 1" in world.run(RUN).invalid
    world.valid(MINE, SEALED)
    world.valid(MINE, PARTS[1])
    assert not world.run(RUN).closed
    rejected = e.SubmissionRejected(term=1, reason=world.run(RUN).invalid, fatal=True)
    world.valid(f"ruling.{RUN}", rejected)
    world.void("run_settled", f"ruling.{RUN}", rejected)
    assert world.run(RUN).settled == "rejected"
    world.void("run_settled", MINE, PARTS[1], SEALED)
    world.void("duplicate", MINE, SUBMITTED)


@pytest.mark.parametrize("data", [b"", b"{", b"[0]", b'[{"type":"TasksSubmitted","part":-1}]'])
def test_s2_an_unreadable_part_dooms_the_run_of_its_writer_only(world: World, data: bytes) -> None:
    world.put(MINE, data)
    assert RUN not in world.pool.runs
    world.valid(MINE, SUBMITTED)
    world.put(f"run.you.{RUN}", data)
    world.put(f"attempt.me.{RUN}", data)
    assert not world.run(RUN).invalid
    world.put(MINE, data)
    assert world.run(RUN).invalid


def test_s2_nothing_dooms_a_run_that_is_complete(world: World) -> None:
    run = world.submit()
    world.put(f"run.me.{run}", b"garbage")
    assert not world.run(run).invalid


def test_s2_a_seal_that_does_not_fit_its_parts_dooms_the_run(world: World) -> None:
    for key, seal in (("a", e.RunSealed(parts=2, tasks=4)), ("b", e.RunSealed(parts=1, tasks=3))):
        run = run_id("me", key)
        world.valid(f"run.me.{run}", e.RunSubmitted(key=key), *PARTS, seal)
        assert "sealed with" in world.run(run).invalid
        assert not world.run(run).closed


def test_s2_an_incomplete_run_is_settled_as_incomplete_and_no_other_way(world: World) -> None:
    world.valid(MINE, SUBMITTED, PARTS[0])
    for verdict in ("passed", "failed", "empty"):
        settled = e.RunSettled(term=1, verdict=verdict, counts={})  # type: ignore[arg-type]
        world.void("run_open", f"ruling.{RUN}", settled)
    world.valid(f"ruling.{RUN}", e.RunSettled(term=1, verdict="incomplete", counts={}))
    world.void("run_settled", MINE, PARTS[1], SEALED)
    assert world.run(RUN).settled == "incomplete"


def test_s2_a_run_without_tasks_is_empty_never_passed(world: World) -> None:
    world.valid(MINE, SUBMITTED, e.RunSealed(parts=0, tasks=0))
    assert world.run(RUN).closed
    world.void("verdict", f"ruling.{RUN}", e.RunSettled(term=1, verdict="passed", counts={}))
    world.valid(f"ruling.{RUN}", e.RunSettled(term=1, verdict="empty", counts={}))


def test_s2_a_run_with_tasks_is_not_empty(world: World) -> None:
    run = world.submit(count=1)
    world.settle(run)
    settled = e.RunSettled(term=1, verdict="empty", counts={"passed": 1})
    world.void("verdict", f"ruling.{run}", settled)


def test_a_run_may_be_cancelled_before_it_is_complete(world: World) -> None:
    world.valid(MINE, SUBMITTED, PARTS[0], e.CancelRequested())
    world.valid(f"ruling.{RUN}", e.RunSettled(term=1, verdict="cancelled", counts={}))


def test_the_size_of_a_run_is_bounded(world: World) -> None:
    world.valid(MINE, SUBMITTED)
    world.run(RUN).size = RUN_TASKS_MAX - 1  # as if so many were there
    bad = e.TasksSubmitted(part=0, group="g", spec=SPEC, count=2)
    judged = world.fold.apply(message(len(world.log) + 1, MINE, encode_batch([bad])))
    assert judged.voids == ["bad_part"]


# -- F13, S5 ---------------------------------------------------------------------------------------
def test_f13_a_run_is_settled_after_all_its_tasks_with_their_counts(world: World) -> None:
    run = world.submit(count=2)
    subject = f"ruling.{run}"
    world.settle(run, "g-0")
    early = e.RunSettled(term=1, verdict="passed", counts={"passed": 1})
    world.void("unsettled_tasks", subject, early)
    world.void("run_closed", subject, e.RunSettled(term=1, verdict="incomplete", counts={}))
    world.settle(run, "g-1", verdict=Verdict.FAILED)
    for counts in ({"passed": 2}, {"passed": 1}, {}, {"passed": 1, "failed": 1, "skipped": 0}):
        world.void("counts", subject, e.RunSettled(term=1, verdict="failed", counts=counts))
    settled = e.RunSettled(term=1, verdict="failed", counts={"failed": 1, "passed": 1})
    world.valid(subject, settled)
    world.void("run_settled", subject, settled)


def test_f13_nothing_after_it_is_valid(world: World) -> None:
    run = world.submit(count=1)
    token = world.assign(run)
    world.settle_all(run)
    after = [
        world.settlement(),
        e.TaskRequeued(term=1, token=token, cause=Cause.TEST),
        e.RangeSettled(
            term=1, group="g", start=0, stop=1, verdict=Verdict.PASSED, cause=Cause.DONE
        ),
        e.RunSettled(term=1, verdict="passed", counts={"passed": 1}),
        e.SubmissionRejected(term=1, reason="no", fatal=True),
    ]
    world.void("run_settled", f"ruling.{run}", *after)
    part = e.TasksSubmitted(part=5, group="h", spec=SPEC)
    words = [part, e.RunSealed(parts=1, tasks=1), e.CancelRequested()]
    world.void("run_settled", f"run.me.{run}", *words)
    world.void("unknown_task", "assign.cpu.w", world.assignment(run, "g-0.2.1.x"))


def test_s5_a_key_is_remembered_until_the_run_is_forgotten(world: World) -> None:
    run = world.submit(count=1)
    world.void("unknown_run", f"ruling.{run}", e.RunForgotten(term=1))
    world.settle_all(run)
    world.void("duplicate", f"run.me.{run}", e.RunSubmitted(key="k"))
    world.void("conflict", f"run.me.{run}", e.RunSubmitted(key="k", name="other"))
    world.valid(f"ruling.{run}", e.RunForgotten(term=1))
    world.void("unknown_run", f"ruling.{run}", e.RunForgotten(term=1))
    assert world.submit(count=1) == run


def test_a_refusal_that_is_not_fatal_only_tells(world: World) -> None:
    run = world.submit()
    told = e.SubmissionRejected(term=1, reason="duplicate", sequence=3, index=0)
    world.valid(f"ruling.{run}", told)
    world.valid("ruling.nothere", told)
    world.void("run_closed", f"ruling.{run}", e.SubmissionRejected(term=1, reason="x", fatal=True))
    assert not world.run(run).settled


# -- ranges ----------------------------------------------------------------------------------------
def ranged(start: int, stop: int, group: str = "g") -> e.RangeSettled:
    return e.RangeSettled(
        term=1, group=group, start=start, stop=stop, verdict=Verdict.NO_CAPACITY,
        cause=Cause.NO_CAPACITY,
    )  # fmt: skip


def test_a_range_settles_what_has_neither_attempt_nor_finish_nor_verdict(world: World) -> None:
    run = world.submit(count=8)
    world.assign(run, "g-1")
    world.finish(run, world.assign(run, "g-2"))
    world.valid(
        f"ruling.{run}", e.TaskRequeued(term=1, token=world.assign(run, "g-3"), cause=Cause.TEST)
    )
    world.settle(run, "g-4")
    running = world.assign(run, "g-5")
    world.settle(run, "g-5", verdict=Verdict.CANCELLED)
    world.valid(f"run.me.{run}", e.CancelRequested(task="g-1"), e.CancelRequested(task="g-6"))
    world.valid(f"ruling.{run}", ranged(0, 7))
    verdicts = world.run(run).groups["g"].verdicts
    assert [index for index, code in enumerate(verdicts) if not code] == [1, 2, 7]
    assert world.run(run).counts == {"passed": 1, "cancelled": 1, "no_capacity": 3}
    assert set(world.run(run).tasks) == {"g-1", "g-2", "g-5"}
    assert set(world.run(run).cancel_tasks) == {"g-1"}
    world.void("already_settled", f"ruling.{run}", ranged(0, 7))
    world.finish(run, running)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (2, 1), (0, 4), (3, 4), (2**53, 2**53)])
def test_a_range_lies_in_its_group(world: World, start: int, stop: int) -> None:
    run = world.submit(count=3)
    world.void("unknown_task", f"ruling.{run}", ranged(start, stop))
    world.void("unknown_task", f"ruling.{run}", ranged(0, 1, "h"))


def test_an_array_of_a_hundred_thousand_is_one_event_and_one_byte_a_task(world: World) -> None:
    run = world.submit(count=100_000)
    group = world.run(run).groups["g"]
    assert (group.size, len(group.verdicts), world.run(run).tasks) == (100_000, 100_000, {})
    world.valid(f"ruling.{run}", ranged(0, 100_000))
    assert world.run(run).counts == {"no_capacity": 100_000}
