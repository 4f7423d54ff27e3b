"""The state: one canonical form, and nothing left behind."""

from __future__ import annotations

import copy
import gc

import msgspec
import pytest
from dtf.core import events as e
from dtf.core import invariants
from dtf.core.errors import BrokenInvariant
from dtf.core.model import Verdict
from dtf.core.state import VERDICT_CODE, Run, canonical, digest
from worlds import World, finished, requeued


def busy_world() -> World:
    """A world with an open attempt, an orphan, a finish, a settled and a doomed run."""
    world = World()
    world.join("v", "i5")
    run = world.submit("a", count=9)
    world.assign(run, "g-0", devices=["gpu0"])
    world.finish(run, world.assign(run, "g-1"))
    world.assign(run, "g-2", worker="v")
    world.valid("worker.v", e.WorkerLeft(incarnation="i5"))
    world.valid(f"ruling.{run}", requeued(1, world.assign(run, "g-3")))
    world.valid(f"run.me.{run}", e.CancelRequested(task="g-4"))
    world.settle_all(world.submit("b"))
    world.put(f"run.me.{world.submit('c')}", b"?")
    return world


def test_f9_equal_histories_have_equal_digests_whatever_the_order_of_names() -> None:
    world = busy_world()
    first = digest(world.pool)
    assert first == digest(busy_world().pool)
    pool = world.pool
    pool.runs = dict(reversed(pool.runs.items()))
    pool.open = dict(reversed(pool.open.items()))
    assert digest(pool) == first


def test_f9_the_canonical_form_has_no_floats() -> None:
    def leaves(value: object) -> list[object]:
        if isinstance(value, dict):
            return [leaf for pair in value.items() for each in pair for leaf in leaves(each)]
        if isinstance(value, list | tuple):
            return [leaf for each in value for leaf in leaves(each)]
        return [value]

    kinds = {type(leaf) for leaf in leaves(msgspec.to_builtins(canonical(busy_world().pool)))}
    assert kinds <= {str, int, bool, type(None)}


def test_f9_whatever_may_change_a_later_judgement_changes_the_digest() -> None:
    seen = set()
    world = World()
    seen.add(digest(world.pool))
    run = world.submit("a")
    token = world.next_token(run)
    say = [
        ("assign.cpu.w", world.assignment(run, token)),
        ("assign._.w", e.AttemptRevoked(term=1, run=run, token=token, mode="steal")),
        (f"attempt.w.{run}", e.AttemptStarted(token=token)),
        (f"ruling.{run}", requeued(1, token, keep_open=True)),
        (f"run.me.{run}", e.CancelRequested(task="g-1")),
        (f"run.me.{run}", e.CancelRequested()),
        ("worker.w", e.WorkerDraining(incarnation="i1")),
        ("pool", e.DrainRequested(worker="w")),
        ("pool", e.PoolConfigured(admins=["x"])),
        (f"attempt.w.{run}", finished(token, n=1)),
    ]
    for subject, event in say:
        before = world.pool.sequence
        world.valid(subject, event)
        world.pool.sequence = before  # position alone would make every digest new
        assert digest(world.pool) not in seen, event
        seen.add(digest(world.pool))
        world.pool.sequence = len(world.log)


def test_the_text_of_a_parser_is_no_part_of_the_state() -> None:
    world = World()
    run = e.RunSubmitted(key="k")
    from dtf.core.ids import run_id

    mine = f"run.me.{run_id('me', 'k')}"
    world.valid(mine, run)
    world.put(mine, b"?")
    before = digest(world.pool)
    world.run(run_id("me", "k")).invalid = "the words of another version"
    assert digest(world.pool) == before


def test_the_codes_of_verdicts_never_change() -> None:
    assert VERDICT_CODE == {
        "passed": 1,
        "failed": 2,
        "skipped": 3,
        "fallback": 4,
        "timed_out": 5,
        "cancelled": 6,
        "no_capacity": 7,
        "error": 8,
    }


def test_a_pool_that_goes_away_takes_its_tasks_along() -> None:
    gc.collect()
    before = sum(isinstance(each, Run) for each in gc.get_objects())
    busy_world()
    gc.collect()
    assert sum(isinstance(each, Run) for each in gc.get_objects()) == before


def test_open_attempts_are_indexed_again_for_a_restored_pool() -> None:
    world = busy_world()
    for worker in world.pool.workers.values():
        worker.open = {}
    with pytest.raises(BrokenInvariant):
        invariants.check(world.pool)
    world.pool.index_open()
    invariants.check(world.pool)


def break_counts(world: World) -> None:
    world.run(next(iter(world.pool.runs))).counts["passed"] = 99


def break_verdicts(world: World) -> None:
    world.run(next(iter(world.pool.runs))).groups["g"].verdicts[8] = 1


def break_open(world: World) -> None:
    next(iter(world.pool.open.values())).task.open.clear()


def break_worker(world: World) -> None:
    next(iter(world.pool.open.values())).incarnation = "other"


def break_orphan(world: World) -> None:
    next(a for a in world.pool.open.values() if a.orphaned).task.settled = True


def break_voids(world: World) -> None:
    world.pool.voids["what they wrote"] = 1


def break_closed(world: World) -> None:
    next(iter(world.pool.runs.values())).sealed = None


@pytest.mark.parametrize(
    "break_it",
    [
        break_counts,
        break_verdicts,
        break_open,
        break_worker,
        break_orphan,
        break_voids,
        break_closed,
    ],
)
def test_a_broken_invariant_carries_the_story(break_it) -> None:
    world = busy_world()
    invariants.check(world.pool)
    break_it(world)
    with pytest.raises(BrokenInvariant, match="how it came") as raised:
        invariants.check(world.pool, ("how it came",))
    assert raised.value.story


def test_a_device_promised_twice_breaks_the_leaders_invariant() -> None:
    world = busy_world()
    invariants.check_reservations(world.pool)
    run = next(iter(world.pool.runs))
    world.assign(run, "g-5", devices=["gpu0"])
    with pytest.raises(BrokenInvariant, match="gpu0"):
        invariants.check_reservations(world.pool)


def test_a_task_assigned_twice_breaks_the_leaders_invariant() -> None:
    world = busy_world()
    run = next(iter(world.pool.runs))
    world.assign(run, "g-0")
    with pytest.raises(BrokenInvariant, match="g-0 runs twice"):
        invariants.check_reservations(world.pool)


def test_settled_tasks_leave_one_byte_each() -> None:
    world = World()
    run = world.submit(count=50)
    for index in range(40):
        world.finish(run, world.assign(run, f"g-{index}"))
        world.settle(run, f"g-{index}", verdict=Verdict.FAILED)
    assert world.run(run).tasks == {}
    assert world.pool.open == {}
    assert copy.copy(world.run(run).groups["g"].verdicts) == b"\2" * 40 + b"\0" * 10
