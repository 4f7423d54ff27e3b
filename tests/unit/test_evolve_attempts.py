"""Attempts, from assignment to end (protocol A1-A6, A8)."""

from __future__ import annotations

import pytest
from dtf.core import events as e
from dtf.core.model import Cause, Held, Verdict
from worlds import World, finished, joined, requeued


@pytest.fixture
def world() -> World:
    return World()


# -- A1 --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", ["0", "2", "01", "-1", "1_", "x", "", "1e0", "9" * 200])
def test_a1_the_first_attempt_is_number_one(world: World, number: str) -> None:
    run = world.submit()
    world.void("attempt_number", "assign.cpu.w", world.assignment(run, f"g-0.{number}.1.x"))


def test_a1_an_attempt_is_the_last_one_plus_one(world: World) -> None:
    run = world.submit()
    first = world.assign(run)
    world.valid(f"ruling.{run}", requeued(1, first))
    world.void("attempt_number", "assign.cpu.w", world.assignment(run, "g-0.1.1.again"))
    world.void("attempt_number", "assign.cpu.w", world.assignment(run, "g-0.3.1.gap"))
    world.valid("assign.cpu.w", world.assignment(run, "g-0.2.1.next"))
    assert world.task(run).tries == 2


@pytest.mark.parametrize(
    "task", ["g", "g-", "g-3", "g-01", "g--1", "g-+1", "g-1_0", "g-٣", "G-0", "-0", "h-0", ""]
)
def test_a1_a_token_names_a_task_of_the_run(world: World, task: str) -> None:
    run = world.submit()
    world.void("unknown_task", "assign.cpu.w", world.assignment(run, f"{task}.1.1.x"))


@pytest.mark.parametrize("token", ["", "g-0", "g-0.1", "g-0.1.1", "g-0.1.1.x.y", "...", "."])
def test_a1_a_token_has_four_parts(world: World, token: str) -> None:
    run = world.submit()
    world.void("unknown_task", "assign.cpu.w", world.assignment(run, token))


def test_a1_tokens_are_compared_whole(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    name, number, term, nonce = token.split(".")
    for other in (f"{name}.{number}.{term}.y", f"{name}.{number}.2.{nonce}", token + "x"):
        world.void("attempt_closed", f"attempt.w.{run}", finished(other))
    world.finish(run, token)


# -- A2 --------------------------------------------------------------------------------------------
def test_a2_events_of_an_attempt_are_numbered_and_stored_twice_without_effect(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    started = e.AttemptStarted(token=token, n=0)
    cases = e.CasesReported(token=token, n=1)
    stored = e.ArtifactStored(token=token, n=2, path="a", digest="d", bytes=1)
    told = [started, cases, stored, finished(token, n=3)]
    subject = f"attempt.w.{run}"
    for place, event in enumerate(told):
        for later in told[place + 1 :]:
            world.void("gap", subject, later)
        world.valid(subject, event)
        closed = place == len(told) - 1
        for earlier in told[: place + 1]:
            world.void("attempt_closed" if closed else "duplicate", subject, earlier)


def test_a2_a_finish_has_the_next_number_too(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    world.valid(f"attempt.w.{run}", e.AttemptStarted(token=token))
    world.void("duplicate", f"attempt.w.{run}", finished(token, n=0))
    world.void("gap", f"attempt.w.{run}", finished(token, n=2))
    world.finish(run, token, n=1)


def test_a2_a_message_may_hold_an_event_and_its_copy(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    said = [e.AttemptStarted(token=token), finished(token, n=1)]
    voids = world.say(f"attempt.w.{run}", *said, *said)
    assert voids == ["", "", "attempt_closed", "attempt_closed"]


# -- A3 --------------------------------------------------------------------------------------------
def test_a3_a_finish_ends_the_attempt_and_not_the_task(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    at = world.finish(run, token, verdict=Verdict.FAILED, cause=Cause.TEST)
    task = world.task(run)
    assert task.finish is not None
    assert (task.finish.token, task.finish.sequence, task.finish.index) == (token, *at)
    assert not task.settled
    assert not task.open
    assert not task.waiting
    assert token not in world.pool.open


def test_a3_a_finish_of_an_attempt_that_is_not_open_is_void(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    world.valid(f"ruling.{run}", requeued(1, token))
    world.void("attempt_closed", f"attempt.w.{run}", finished(token))
    assert world.task(run).waiting


def test_a3_of_attempts_kept_open_the_first_finish_counts(world: World) -> None:
    run = world.submit()
    first = world.assign(run)
    world.valid(f"ruling.{run}", requeued(1, first, keep_open=True, delay_ms=7))
    assert world.task(run).waiting
    assert world.task(run).delay_ms == 7
    world.join("v", "i9")
    second = world.assign(run, worker="v")
    assert world.task(run).delay_ms == 0
    world.finish(run, second, worker="v")
    world.finish(run, first, verdict=Verdict.FAILED)
    finish = world.task(run).finish
    assert finish is not None
    assert finish.token == second


def test_a3_a_settled_task_waits_for_nothing_but_the_end_of_its_attempts(world: World) -> None:
    run = world.submit()
    first = world.assign(run)
    world.valid(f"ruling.{run}", requeued(1, first, keep_open=True))
    second = world.assign(run)
    world.finish(run, second)
    world.settle(run, token=second, at=(1, 0))
    assert (world.task(run).finish, world.task(run).waiting) == (None, False)
    world.finish(run, first, verdict=Verdict.FAILED)
    assert world.run(run).tasks == {}
    assert world.run(run).counts == {"passed": 1}


def test_a3_a_requeue_that_keeps_open_counts_once(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    kept = requeued(1, token, keep_open=True)
    world.valid(f"ruling.{run}", kept)
    world.void("duplicate", f"ruling.{run}", kept)
    assert world.task(run).losses == 1
    world.valid(f"ruling.{run}", requeued(1, token))  # now it is closed, and counts no second time
    assert world.task(run).losses == 1
    assert token not in world.pool.open


@pytest.mark.parametrize(
    ("cause", "losses", "failures"),
    [(Cause.WORKER_LOST, 1, 0), (Cause.SETUP, 1, 0), (Cause.TEST, 0, 1), (Cause.CRASH, 0, 1)],
)
def test_a3_requeues_count_by_cause(world: World, cause: Cause, losses: int, failures: int) -> None:
    run = world.submit()
    world.valid(f"ruling.{run}", requeued(1, world.assign(run), cause))
    assert (world.task(run).losses, world.task(run).failures) == (losses, failures)


def test_a3_a_finish_may_be_refused_and_the_task_tried_again(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    world.finish(run, token, verdict=Verdict.FAILED, cause=Cause.TEST)
    again = requeued(1, token, Cause.TEST, delay_ms=100)
    world.valid(f"ruling.{run}", again)
    world.void("attempt_closed", f"ruling.{run}", again)
    task = world.task(run)
    assert (task.waiting, task.failures, task.delay_ms) == (True, 1, 100)


@pytest.mark.parametrize("cause", [Cause.WORKER_LOST, Cause.NEVER_RECEIVED])
def test_a3_a_finish_that_landed_before_the_loss_wins(world: World, cause: Cause) -> None:
    run = world.submit()
    token = world.assign(run)
    world.finish(run, token)
    world.void("attempt_closed", f"ruling.{run}", requeued(1, token, cause))
    assert world.task(run).finish is not None


def test_a3_settling_an_unsettled_task_is_never_void(world: World) -> None:
    run = world.submit(count=6)
    started = world.assign(run, "g-1")
    world.valid(f"attempt.w.{run}", e.AttemptStarted(token=started))
    done = world.assign(run, "g-2")
    world.finish(run, done)
    world.valid(f"ruling.{run}", requeued(1, world.assign(run, "g-3")))
    kept = world.assign(run, "g-4")
    world.valid(f"ruling.{run}", requeued(1, kept, keep_open=True))
    world.assign(run, "g-5")
    world.valid("worker.w", e.WorkerLeft(incarnation="i1"))
    for task in range(6):
        world.settle(run, f"g-{task}", verdict=Verdict.ERROR, cause=Cause.SCHEDULER_BUG)
        world.void("already_settled", f"ruling.{run}", world.settlement(f"g-{task}"))
    assert world.run(run).counts == {"error": 6}


def test_a3_a_settling_names_its_finish_or_closes_the_attempt_it_calls_lost(world: World) -> None:
    run = world.submit()
    lost = world.assign(run)
    world.settle(run, verdict=Verdict.ERROR, cause=Cause.NEVER_RECEIVED, token=lost)
    assert lost not in world.pool.open
    runs_on = world.assign(run, "g-1")
    world.settle(run, "g-1", verdict=Verdict.CANCELLED, cause=Cause.CANCELLED)
    assert runs_on in world.pool.open


def test_a3_an_attempt_of_a_settled_task_can_be_closed_and_counts_nothing(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    world.settle(run, verdict=Verdict.CANCELLED, cause=Cause.CANCELLED)
    other = world.assign(run, "g-1")
    world.valid(f"ruling.{run}", requeued(1, other, keep_open=True))
    second = world.assign(run, "g-1")
    world.settle(run, "g-1", verdict=Verdict.CANCELLED, cause=Cause.CANCELLED)
    world.valid(f"ruling.{run}", requeued(1, second))
    assert (world.task(run, "g-1").losses, world.task(run, "g-1").waiting) == (1, False)
    world.valid(f"ruling.{run}", requeued(1, token, Cause.NEVER_RECEIVED, keep_open=True))
    assert token not in world.pool.open
    assert world.run(run).counts == {"cancelled": 2}
    world.void("unknown_task", f"ruling.{run}", requeued(1, token))


def test_a3_a_ruling_is_about_a_task_of_its_run(world: World) -> None:
    run, other = world.submit("a"), world.submit("b")
    token = world.assign(run)
    world.assign(other)
    world.void("attempt_closed", f"ruling.{other}", requeued(1, token))
    assert token in world.pool.open


# -- A4, A6 ----------------------------------------------------------------------------------------
def test_a4_an_assignment_reserves_also_for_a_task_cancelled_meanwhile(world: World) -> None:
    run = world.submit()
    world.valid(f"run.me.{run}", e.CancelRequested())
    token = world.assign(run, devices=["gpu0"])
    assert world.attempt(token).devices == ["gpu0"]


def test_a4_an_assignment_reserves_also_on_a_worker_that_drains(world: World) -> None:
    run = world.submit()
    world.valid("worker.w", e.WorkerDraining(incarnation="i1"))
    assert world.assign(run) in world.pool.open


def test_a4_an_assignment_to_another_incarnation_or_nobody_is_void(world: World) -> None:
    run = world.submit()
    world.void("incarnation", "assign.cpu.w", world.assignment(run, "g-0.1.1.x", incarnation="i0"))
    world.void("incarnation", "assign.cpu.v", world.assignment(run, "g-0.1.1.x", incarnation="i1"))


def test_a4_an_assignment_stored_twice_reserves_once(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    copy = world.assignment(run, token)
    world.void("duplicate", "assign.cpu.w", copy)
    world.finish(run, token)
    world.void("attempt_number", "assign.cpu.w", copy)
    world.settle(run)
    world.void("already_settled", "assign.cpu.w", copy)
    assert not world.pool.open


def test_a4_a_settled_task_is_not_tried_again_while_an_attempt_still_runs(world: World) -> None:
    run = world.submit()
    world.assign(run)
    world.settle(run)
    again = world.assignment(run, world.next_token(run))
    world.void("already_settled", "assign.cpu.w", again)


def test_a4_assignments_of_a_message_are_judged_one_by_one_in_any_order(world: World) -> None:
    run, other = world.submit("a", count=9), world.submit("b", count=9)
    world.finish(run, world.assign(run, "g-2"))
    world.settle(run, "g-3")
    world.assign(run, "g-5")
    said = [
        (run, "g-0.1.1.a", ""), (run, "g-1.2.1.z", "attempt_number"), (run, "g-1.1.1.b", ""),
        (run, "g-2.1.1.c", "attempt_number"),
        (run, "g-2.2.1.d", ""), (run, "g-3.1.1.e", "already_settled"), (run, "g-4.1.1.f", ""),
        (run, "g-5.1.1.g", "attempt_number"), (run, "g-6.2.1.h", "attempt_number"),
        (run, "g-6.1.1.i", ""), (run, "g-6.1.1.j", "attempt_number"), (run, "g-7.1.1.k", ""),
        (other, "g-8.1.1.l", ""), (run, "g-8.1.1.m", ""), (run, "g-9.1.1.n", "unknown_task"),
        (run, ".1.1.o", "unknown_task"), ("nothere", "g-0.1.1.p", "unknown_task"),
        (other, "g-0.1.1.q", ""), (other, "g-1.1.1.r", ""), (other, "g-1.1.1.r", "duplicate"),
    ]  # fmt: skip
    voids = world.say("assign.cpu.w", *(world.assignment(of, token) for of, token, _ in said))
    assert voids == [void for _, _, void in said]


@pytest.mark.parametrize("ended", ["left", "lost"])
def test_a4_an_assignment_to_an_incarnation_that_ended_awaits_a_ruling(
    world: World, ended: str
) -> None:
    run = world.submit()
    if ended == "left":
        world.valid("worker.w", e.WorkerLeft(incarnation="i1"))
    else:
        world.valid("assign._.w", e.WorkerLost(term=1, incarnation="i1"))
    token = world.assign(run)
    assert world.attempt(token).orphaned == ended
    world.valid(f"ruling.{run}", requeued(1, token))


def test_a6_a_reservation_outlives_the_task_and_the_run(world: World) -> None:
    run = world.submit()
    token = world.assign(run, devices=["gpu0"])
    world.settle_all(run)
    world.valid(f"ruling.{run}", e.RunForgotten(term=1))
    assert world.attempt(token).devices == ["gpu0"]
    world.finish(run, token)
    assert not world.pool.open
    assert run not in world.pool.runs


# -- A5 --------------------------------------------------------------------------------------------
def test_a5_a_revocation_moves_nothing_until_the_worker_returns_the_attempt(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    revoked = e.AttemptRevoked(term=1, run=run, token=token, mode="steal")
    world.valid("assign._.w", revoked)
    assert not world.task(run).waiting
    world.void("duplicate", "assign._.w", revoked)
    world.valid(f"attempt.w.{run}", e.AttemptReturned(token=token))
    task = world.task(run)
    assert (task.waiting, task.losses, world.pool.open) == (True, 0, {})


def test_a5_what_a_draining_agent_gives_back_is_no_loss(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    incarnation = world.pool.workers["w"].incarnation
    world.valid("worker.w", e.WorkerDraining(incarnation=incarnation))
    world.valid(f"attempt.w.{run}", e.AttemptReturned(token=token))
    assert (world.task(run).waiting, world.task(run).losses) == (True, 0)


def test_a5_what_the_agent_gives_back_unasked_counts_as_a_loss(world: World) -> None:
    run = world.submit()
    world.valid(f"attempt.w.{run}", e.AttemptReturned(token=world.assign(run)))
    assert world.task(run).losses == 1


def test_a5_a_started_attempt_is_not_given_back(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    world.valid(f"attempt.w.{run}", e.AttemptStarted(token=token))
    world.valid("assign._.w", e.AttemptRevoked(term=1, run=run, token=token, mode="steal"))
    world.void("already_started", f"attempt.w.{run}", e.AttemptReturned(token=token, n=1))
    assert token in world.pool.open


def test_a5_a_cancel_follows_a_steal_and_not_the_other_way_round(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    for mode in ("steal", "cancel"):
        world.valid("assign._.w", e.AttemptRevoked(term=1, run=run, token=token, mode=mode))  # type: ignore[arg-type]
    steal = e.AttemptRevoked(term=1, run=run, token=token, mode="steal")
    world.void("duplicate", "assign._.w", steal)
    assert world.attempt(token).revoked == "cancel"


def test_a5_a_revocation_names_the_run_and_the_worker_of_the_attempt(world: World) -> None:
    run = world.submit()
    token = world.assign(run)
    for subject, of in (("assign._.v", run), ("assign._.w", "other")):
        revoked = e.AttemptRevoked(term=1, run=of, token=token, mode="cancel")
        world.void("attempt_closed", subject, revoked)


# -- A8 --------------------------------------------------------------------------------------------
def test_a8_the_log_says_whether_the_cancel_or_the_finish_landed_first(world: World) -> None:
    run = world.submit()
    early, late = world.assign(run, "g-0"), world.assign(run, "g-1")
    world.finish(run, early)
    world.valid(f"run.me.{run}", e.CancelRequested())
    world.finish(run, late)
    asked = world.run(run).cancel_at
    first, second = world.task(run, "g-0").finish, world.task(run, "g-1").finish
    assert first is not None
    assert second is not None
    assert first.sequence < asked < second.sequence


def test_a8_cancel_of_what_is_unknown_or_settled_is_void(world: World) -> None:
    run = world.submit()
    subject = f"run.me.{run}"
    world.void("unknown_run", "run.me.nothere", e.CancelRequested())
    for task in ("g-3", "g", "h-0", "g-00", ""):
        world.void("unknown_task", subject, e.CancelRequested(task=task))
    one = e.CancelRequested(task="g-1")
    world.valid(subject, one)
    world.void("duplicate", subject, one)
    world.settle(run, "g-1", verdict=Verdict.CANCELLED)
    world.void("already_settled", subject, one)
    assert world.run(run).cancel_tasks == {}
    world.valid(subject, e.CancelRequested())
    world.void("duplicate", subject, e.CancelRequested(task="g-2"), e.CancelRequested())
    world.settle_all(run)
    world.void("run_settled", subject, e.CancelRequested())


# -- whose event it is (F5) ------------------------------------------------------------------------
def test_f5_an_attempt_belongs_to_one_worker_and_one_run(world: World) -> None:
    world.join("v", "i9")
    run, other = world.submit("a"), world.submit("b")
    token = world.assign(run)
    events = [
        e.AttemptStarted(token=token),
        e.CasesReported(token=token, n=0),
        e.ArtifactStored(token=token, n=0, path="a", digest="d", bytes=0),
        e.AttemptReturned(token=token),
        finished(token),
    ]
    for subject in (f"attempt.v.{run}", f"attempt.w.{other}", f"attempt.nobody.{run}"):
        world.void("not_yours", subject, *events)
    world.valid("worker.w", joined("i2", held=[Held(run=other, token=token)]))
    assert world.attempt(token).orphaned == "superseded"
