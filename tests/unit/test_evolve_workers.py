"""Workers and their incarnations (protocol W1, W3)."""

from __future__ import annotations

import pytest
from dtf.core import events as e
from dtf.core import evolve_pool
from dtf.core.model import Held, Verdict
from dtf.core.state import INCARNATIONS_REMEMBERED
from worlds import World, finished, joined, requeued


@pytest.fixture
def world() -> World:
    return World()


def test_w1_a_newer_join_supersedes_and_its_attempts_await_a_ruling(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    world.join("w", "i2")
    assert world.attempt(token).orphaned == "superseded"
    assert world.pool.workers["w"].incarnation == "i2"
    world.valid(f"ruling.{run}", requeued(1, token))
    assert world.task(run).waiting


def test_w1_an_old_join_stored_again_does_not_come_back(world: World) -> None:
    for number in range(2, INCARNATIONS_REMEMBERED + 2):
        world.join("w", f"i{number}")
    for number in range(1, INCARNATIONS_REMEMBERED + 2):
        world.void("duplicate", "worker.w", joined(f"i{number}"))


def test_w1_words_of_an_incarnation_that_is_over_are_void(world: World) -> None:
    world.join("w", "i2")
    old = e.WorkerLeft(incarnation="i1"), e.WorkerDraining(incarnation="i1")
    world.void("incarnation", "worker.w", *old)
    world.void("incarnation", "assign._.w", e.WorkerLost(term=1, incarnation="i1"))
    world.void("unknown_worker", "worker.v", *old)
    world.valid("worker.w", e.WorkerDraining(incarnation="i2"))
    world.void("duplicate", "worker.w", e.WorkerDraining(incarnation="i2"))
    assert not world.pool.workers["w"].assignable
    world.valid("worker.w", e.WorkerLeft(incarnation="i2"))
    world.void("worker_ended", "worker.w", e.WorkerLeft(incarnation="i2"))
    world.void("worker_ended", "assign._.w", e.WorkerLost(term=1, incarnation="i2"))


def test_w3_a_loss_makes_unassignable_and_each_attempt_awaits_its_own_ruling(world: World) -> None:
    run = world.submit()
    tokens = [world.assign(run, f"g-{index}") for index in range(3)]
    world.valid("assign._.w", e.WorkerLost(term=1, incarnation="i1"))
    assert not world.pool.workers["w"].assignable
    assert [world.attempt(token).orphaned for token in tokens] == ["lost"] * 3
    assert not any(task.waiting for task in world.run(run).tasks.values())
    world.valid(f"ruling.{run}", *(requeued(1, token) for token in tokens))
    assert all(task.waiting for task in world.run(run).tasks.values())
    assert not world.pool.workers["w"].open


def test_w3_a_finish_of_a_lost_worker_counts_until_the_ruling(world: World) -> None:
    run = world.submit()
    early, late = world.assign(run, "g-0"), world.assign(run, "g-1")
    world.valid("assign._.w", e.WorkerLost(term=1, incarnation="i1"))
    world.finish(run, early)
    world.valid(f"ruling.{run}", requeued(1, late))
    world.void("attempt_closed", f"attempt.w.{run}", finished(late))


def test_w3_held_attempts_reserve_until_they_end(world: World) -> None:
    run = world.submit()
    held, left = world.assign(run, "g-0", devices=["gpu0"]), world.assign(run, "g-1")
    world.valid("assign._.w", e.WorkerLost(term=1, incarnation="i1"))
    strangers = [Held(run="other", token=left), Held(run=run, token="g-2.1.1.x")]
    world.join("w", "i2", held=[Held(run=run, token=held), *strangers])
    attempt = world.attempt(held)
    assert (attempt.incarnation, attempt.orphaned) == ("i2", "")
    assert world.attempt(left).orphaned == "lost"
    world.finish(run, held)


def test_w3_attempts_of_settled_tasks_end_with_their_incarnation(world: World) -> None:
    run, other = world.submit("a"), world.submit("b")
    token = world.assign(run)
    world.settle_all(run)
    kept = world.assign(other)
    world.settle(other, verdict=Verdict.CANCELLED)
    world.join("w", "i2", held=[Held(run=other, token=kept)])
    assert set(world.pool.open) == {kept}
    assert token not in world.pool.open
    world.valid("worker.w", e.WorkerLeft(incarnation="i2"))
    assert not world.pool.open
    assert world.run(other).tasks == {}


def test_w3_orphans_end_with_the_ruling_on_their_task_or_run(world: World) -> None:
    run = world.submit()
    world.assign(run)
    world.valid("assign._.w", e.WorkerLost(term=1, incarnation="i1"))
    world.settle(run, verdict=Verdict.ERROR)
    assert not world.pool.open


def test_an_operators_drain_survives_a_new_incarnation(world: World) -> None:
    world.void("unknown_worker", "pool", e.DrainRequested(worker="v"))
    world.valid("pool", e.DrainRequested(worker="w", reason="new driver"))
    world.join("w", "i2")
    assert world.pool.workers["w"].drained == "new driver"
    world.valid("pool", e.DrainRequested(worker="w", drain=False))
    assert world.pool.workers["w"].assignable


def test_names_of_workers_that_come_and_go_do_not_add_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evolve_pool, "WORKERS_MAX", 4)
    run = world.submit()
    world.assign(run)  # `w` holds an attempt
    world.join("lost", "i")
    world.assign(run, "g-1", worker="lost")  # and so does this one, until the ruling
    world.valid("assign._.lost", e.WorkerLost(term=1, incarnation="i"))
    world.join("drained", "i")
    world.valid("pool", e.DrainRequested(worker="drained"))
    world.valid("worker.drained", e.WorkerLeft(incarnation="i"))
    for number in range(20):
        world.join(f"gone{number}", "i")
        world.valid(f"worker.gone{number}", e.WorkerLeft(incarnation="i"))
    world.join("new", "i")
    assert len(world.pool.workers) <= 5
    assert {"w", "lost", "drained", "new"} <= world.pool.workers.keys()
