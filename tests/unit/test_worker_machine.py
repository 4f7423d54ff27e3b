"""Given what a worker heard, when it hears one thing more, then it does this and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from dtf.core import events as e
from dtf.core.ids import attempt_token
from dtf.core.model import Case, Cause, Requirement, TaskSpec, Verdict
from dtf.worker import attempt as a
from dtf.worker import machine as m
from dtf.worker.admission import LINE_MAX

SPEC = TaskSpec(command=["/bin/true"])
INLINE = TaskSpec(runner="python", target="m:f", isolation="none")
DONE = a.Ended(verdict=Verdict.PASSED, duration_us=5)


class World:
    """A machine and a log that only it reads."""

    def __init__(self, cpu_milli: int = 1000, memory_bytes: int = 1000) -> None:
        self.machine = m.Machine("inc", cpu_milli, memory_bytes)
        self.sequence = 0

    def hear(self, *events: e.Event) -> list[Any]:
        """What it does on reading one message."""
        self.sequence += 1
        self.machine.read(self.sequence, events)
        return self.take()

    def take(self) -> list[Any]:
        out, self.machine.out = self.machine.out, []
        return out

    def end(self, attempt: a.Attempt, ended: a.Ended = DONE) -> list[Any]:
        self.machine.finish_all([(attempt, ended)])
        return self.take()


def assigned(index: int = 0, *, spec: TaskSpec | None = SPEC, **given: Any) -> e.TaskAssigned:
    fields: dict[str, Any] = {"term": 1, "run": "r", "incarnation": "inc", **given}
    token = fields.pop("token", None) or attempt_token(f"g-{index}", 1, fields["term"], "n")
    return e.TaskAssigned(token=token, spec=spec, **fields)


def started(out: list[Any]) -> list[a.Attempt]:
    found = []
    for instruction in out:
        if isinstance(instruction, a.Start):
            found.append(instruction.attempt)
        elif isinstance(instruction, a.StartInline):
            found += instruction.attempts
    return found


def published(out: list[Any]) -> list[e.Event]:
    return [instruction.event for instruction in out if isinstance(instruction, a.Publish)]


def test_an_assignment_starts_and_its_end_is_published_as_number_zero() -> None:
    world = World()
    (attempt,) = started(world.hear(assigned()))
    (end,) = published(world.end(attempt))
    assert isinstance(end, e.AttemptFinished)
    assert (end.n, end.token, end.verdict) == (0, attempt.token, Verdict.PASSED)
    assert world.machine.held() == [f"r/{attempt.token}"], "held until it is stored (W4)"
    world.machine.forget(attempt.token)
    assert world.machine.held() == []


def test_events_of_an_attempt_are_numbered_without_a_gap() -> None:
    world = World()
    (attempt,) = started(world.hear(assigned()))
    world.machine.announce(attempt)
    world.machine.announce(attempt)
    world.machine.report(attempt, [Case(id="a", verdict=Verdict.PASSED)], [])
    world.machine.artifact(attempt, "f", "sha256:0", 3)
    events: list[Any] = published(world.take() + world.end(attempt))
    kinds = [e.AttemptStarted, e.CasesReported, e.ArtifactStored, e.AttemptFinished]
    assert [type(event) for event in events] == kinds
    assert [event.n for event in events] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "event", [assigned(incarnation="other"), assigned(term=1, token="g-0.1.1.n")]
)
def test_an_assignment_of_an_older_term_or_another_incarnation_is_void(
    event: e.TaskAssigned,
) -> None:
    world = World()
    world.hear(e.LeaderElected(term=2, coordinator="c", nonce="n"))
    assert world.hear(event) == []
    assert world.machine.held() == []


def test_an_assignment_of_an_older_term_that_came_before_the_election_counts() -> None:
    world = World()
    assert started(world.hear(assigned()))
    world.hear(e.LeaderElected(term=2, coordinator="c", nonce="n"))
    assert len(world.machine.held()) == 1


def test_an_assignment_stored_twice_runs_once_also_after_its_end() -> None:
    world = World()
    (attempt,) = started(world.hear(assigned()))
    assert world.hear(assigned()) == []
    world.end(attempt)
    assert world.hear(assigned()) == []
    world.machine.forget(attempt.token)
    assert world.hear(assigned()) == []


def test_a_specification_is_kept_for_the_group_and_one_that_never_came_is_told() -> None:
    world = World(cpu_milli=5000)
    assert len(started(world.hear(assigned(0), assigned(1, spec=None)))) == 2
    (returned,) = published(world.hear(assigned(2, spec=None, run="other")))
    assert isinstance(returned, e.AttemptReturned)
    assert "specification" in returned.reason


def test_first_come_first_served_by_cores() -> None:
    world = World(cpu_milli=2000)
    big = TaskSpec(command=["x"], require=Requirement(cpu_milli=2000))
    out = world.hear(
        assigned(0), assigned(token="b-0.1.1.n", spec=big), assigned(token="s-0.1.1.n")
    )
    (first,) = started(out)
    (second,) = started(world.end(first))
    assert second.token == "b-0.1.1.n", "the small one behind it may not starve the big one"
    (third,) = started(world.end(second))
    assert third.token == "s-0.1.1.n"


def test_memory_is_reserved_and_freed() -> None:
    world = World(cpu_milli=5000, memory_bytes=100)
    spec = TaskSpec(command=["x"], require=Requirement(memory_bytes=60))
    (first,) = started(world.hear(assigned(0, spec=spec), assigned(1, spec=None)))
    assert len(started(world.end(first))) == 1


def test_who_waits_for_a_device_does_not_hold_up_who_does_not() -> None:
    world = World(cpu_milli=5000)
    gpu = TaskSpec(command=["x"], require=Requirement(hardware="cuda"))
    out = world.hear(
        assigned(0, spec=gpu, devices=["d0"]),
        assigned(1, spec=gpu, devices=["d0"]),
        assigned(token="c-0.1.1.n"),
    )
    first, third = started(out)
    assert (first.token, third.token) == ("g-0.1.1.n", "c-0.1.1.n")
    (second,) = started(world.end(first))
    assert second.token == "g-1.1.1.n"


def test_what_can_never_fit_is_given_back_with_the_reason() -> None:
    world = World(cpu_milli=1000)
    spec = TaskSpec(command=["x"], require=Requirement(cpu_milli=4000))
    (returned,) = published(world.hear(assigned(spec=spec)))
    assert isinstance(returned, e.AttemptReturned)
    assert "4000" in returned.reason
    assert "1000" in returned.reason


def test_in_process_tasks_share_one_reservation_and_start_in_one_batch() -> None:
    world = World(cpu_milli=1000)
    out = world.hear(*[assigned(i, spec=INLINE) for i in range(100)])
    assert len(out) == 1
    attempts = started(out)
    assert [a.token for a in attempts] == [f"g-{i}.1.1.n" for i in range(100)]
    assert world.hear(assigned(token="p-0.1.1.n", spec=SPEC)) == [], "the core is taken"
    for attempt in attempts[:-1]:
        assert started(world.end(attempt)) == []
    assert [a.token for a in started(world.end(attempts[-1]))] == ["p-0.1.1.n"]


def test_an_in_process_task_waits_behind_a_process_that_came_first() -> None:
    world = World(cpu_milli=1000)
    (first,) = started(world.hear(assigned(0)))
    assert world.hear(assigned(token="i-0.1.1.n", spec=INLINE)) == []
    (second,) = started(world.end(first))
    assert second.inline


def test_a_steal_takes_back_what_waits_and_ignores_what_runs() -> None:
    world = World()
    world.hear(assigned(0), assigned(1))
    steal = e.AttemptRevoked(term=1, run="r", token="g-1.1.1.n", mode="steal")
    (returned,) = published(world.hear(steal))
    assert isinstance(returned, e.AttemptReturned)
    assert returned.n == 0
    running = e.AttemptRevoked(term=1, run="r", token="g-0.1.1.n", mode="steal")
    assert world.hear(running) == []


def test_a_stolen_attempt_never_starts() -> None:
    world = World()
    (first,) = started(world.hear(assigned(0), assigned(1), assigned(2)))
    world.hear(e.AttemptRevoked(term=1, run="r", token="g-1.1.1.n", mode="steal"))
    (next_one,) = started(world.end(first))
    assert next_one.token == "g-2.1.1.n"


def test_an_in_process_attempt_in_line_can_still_be_stolen() -> None:
    world = World()
    _, second = started(world.hear(assigned(0, spec=INLINE), assigned(1, spec=INLINE)))
    (back,) = world.hear(e.AttemptRevoked(term=1, run="r", token=second.token, mode="steal"))
    assert back == a.TakeBack(second)
    world.machine.returned(second)
    (returned,) = published(world.take())
    assert isinstance(returned, e.AttemptReturned)
    assert published(world.end(second)) == []
    assert world.machine.running == 1


def test_a_cancel_ends_what_waits_and_kills_what_runs() -> None:
    world = World()
    (running,) = started(world.hear(assigned(0), assigned(1)))
    (end,) = published(
        world.hear(e.AttemptRevoked(term=1, run="r", token="g-1.1.1.n", mode="cancel"))
    )
    assert isinstance(end, e.AttemptFinished)
    assert (end.verdict, end.cause) == (Verdict.CANCELLED, Cause.CANCELLED)
    cancel = e.AttemptRevoked(term=1, run="r", token=running.token, mode="cancel")
    assert world.hear(cancel) == [a.Kill(running)]
    assert world.hear(cancel) == [], "asked twice, killed once"
    (ended,) = published(world.end(running, DONE))
    assert isinstance(ended, e.AttemptFinished)
    assert ended.verdict is Verdict.CANCELLED, "whatever it ended as while it was killed"


def lined_up() -> tuple[World, list[a.Attempt]]:
    """A world where a short attempt runs and two alike are lined up behind it."""
    world = World()
    (first,) = started(world.hear(assigned(0)))
    world.end(first)
    return world, started(world.hear(assigned(1), assigned(2), assigned(3)))


def test_short_attempts_are_lined_up_and_take_over_what_is_reserved() -> None:
    world, attempts = lined_up()
    assert len({attempt.slot for attempt in attempts}) == 1
    assert world.machine.running == 1
    for attempt in attempts:
        assert world.machine.admission.cpu == 0
        world.end(attempt)
    assert (world.machine.running, world.machine.admission.cpu) == (0, 1000)


def test_attempts_that_took_long_have_nobody_lined_up_behind_them() -> None:
    world = World()
    (first,) = started(world.hear(assigned(0)))
    world.machine.announce(first)
    world.end(first)
    assert len(started(world.hear(assigned(1), assigned(2)))) == 1


def test_nobody_is_lined_up_behind_what_was_announced() -> None:
    world, attempts = lined_up()
    world.machine.announce(attempts[0])
    assert started(world.hear(assigned(4))) == []


def test_the_line_is_bounded() -> None:
    world, _ = lined_up()
    assert len(started(world.hear(*[assigned(i) for i in range(4, 40)]))) == LINE_MAX - 2


def test_who_is_returned_waits_again_in_the_old_place() -> None:
    world, (first, second, third) = lined_up()
    world.hear(assigned(4, spec=TaskSpec(command=["y"]), token="z-0.1.1.n"))
    world.machine.announce(first)
    world.take()
    world.machine.returned(second)
    world.machine.returned(third)
    assert world.take() == []
    order = []
    current = first
    for _ in range(3):
        (current,) = started(world.end(current))
        order.append(current.token)
    assert order == [second.token, third.token, "z-0.1.1.n"]


def test_a_steal_from_the_line_is_asked_of_the_supervisor() -> None:
    world, (first, second, _) = lined_up()
    steal = e.AttemptRevoked(term=1, run="r", token=second.token, mode="steal")
    assert world.hear(steal) == [a.TakeBack(second)]
    world.machine.returned(second)
    (returned,) = published(world.take())
    assert isinstance(returned, e.AttemptReturned)
    assert world.machine.running == 1
    world.end(first)
    assert world.machine.running == 1, "the third took over"


def test_a_steal_that_came_too_late_changes_nothing() -> None:
    world, (first, second, _) = lined_up()
    world.hear(e.AttemptRevoked(term=1, run="r", token=second.token, mode="steal"))
    world.end(first)
    (end,) = published(world.end(second))
    assert isinstance(end, e.AttemptFinished)
    assert end.verdict is Verdict.PASSED


def test_a_cancel_in_the_line_ends_the_attempt_unstarted() -> None:
    world, (_, second, _) = lined_up()
    cancel = e.AttemptRevoked(term=1, run="r", token=second.token, mode="cancel")
    assert world.hear(cancel) == [a.Kill(second)]
    world.machine.returned(second)
    (end,) = published(world.take())
    assert isinstance(end, e.AttemptFinished)
    assert (end.verdict, end.duration_us) == (Verdict.CANCELLED, 0)


def test_a_drain_gives_back_who_is_returned_from_the_line() -> None:
    world, (_, second, _) = lined_up()
    world.machine.drain("maintenance")
    world.machine.returned(second)
    (returned,) = published(world.take())
    assert isinstance(returned, e.AttemptReturned)
    assert returned.reason == "maintenance"


def test_the_supervisor_may_start_the_line_in_another_order() -> None:
    world, (first, second, third) = lined_up()
    world.end(second)
    world.machine.returned(first)
    assert world.machine.running == 1
    (again,) = started(world.end(third))
    assert again is first
    world.end(first)
    assert (world.machine.running, world.machine.admission.cpu) == (0, 1000)


def test_a_revocation_of_an_older_term_is_void() -> None:
    world = World()
    (running,) = started(world.hear(assigned(0)))
    world.hear(e.LeaderElected(term=2, coordinator="c", nonce="n"))
    cancel = e.AttemptRevoked(term=1, run="r", token=running.token, mode="cancel")
    assert world.hear(cancel) == []


def test_a_lost_incarnation_says_nothing_more_about_its_attempts() -> None:
    world = World()
    (running,) = started(world.hear(assigned(0), assigned(1)))
    assert world.hear(e.WorkerLost(term=1, incarnation="older")) == []
    assert world.hear(e.WorkerLost(term=1, incarnation="inc", reason="silent")) == [
        a.Rejoin("silent")
    ]
    assert world.end(running) == []
    assert world.hear(assigned(2)) == []
    assert world.machine.held() == []


def test_a_newer_agent_of_the_same_name_ends_this_one() -> None:
    world = World()
    mine = e.WorkerJoined(incarnation="inc", hardware=["cpu"], cpu_milli=1, memory_bytes=1)
    assert world.hear(mine) == []
    other = e.WorkerJoined(incarnation="new", hardware=["cpu"], cpu_milli=1, memory_bytes=1)
    (instruction,) = world.hear(other)
    assert isinstance(instruction, a.Exit)
    assert "new" in instruction.reason


def test_a_drain_gives_back_what_waits_and_lets_run_what_runs() -> None:
    world = World()
    (running,) = started(world.hear(assigned(0), assigned(1)))
    world.machine.drain("maintenance")
    (returned,) = published(world.take())
    assert isinstance(returned, e.AttemptReturned)
    assert returned.reason == "maintenance"
    (late,) = published(world.hear(assigned(2)))
    assert isinstance(late, e.AttemptReturned)
    assert [type(x) for x in published(world.end(running))] == [e.AttemptFinished]


def test_a_drained_machine_says_so_once_its_last_event_is_stored() -> None:
    world = World()
    said: list[str] = []
    world.machine.on_drained = lambda: said.append("drained")
    (running,) = started(world.hear(assigned(0)))
    world.machine.drain("maintenance")
    world.end(running)
    assert not said
    running.stored(9, 0)
    assert said == ["drained"]


def test_the_short_way_for_passed_tasks_equals_the_long_one() -> None:
    long, short = World(), World()
    (one,) = started(long.hear(assigned(spec=INLINE)))
    (two,) = started(short.hear(assigned(spec=INLINE)))
    value = msgspec.Raw(b"1")
    told = published(long.end(one, a.Ended(verdict=Verdict.PASSED, duration_us=5, value=value)))
    short.machine.passed(two, 5, value)
    assert published(short.take()) == told
    assert (short.machine.running, short.machine.admission.cpu) == (0, 1000)


def test_the_short_way_tells_of_a_cancel_too() -> None:
    world = World()
    (attempt,) = started(world.hear(assigned(1, spec=INLINE)))
    world.hear(e.AttemptRevoked(term=1, run="r", token=attempt.token, mode="cancel"))
    world.machine.passed(attempt, 5, msgspec.Raw(b"1"))
    (end,) = published(world.take())
    assert isinstance(end, e.AttemptFinished)
    assert end.verdict is Verdict.CANCELLED


def test_what_is_no_event_for_a_worker_changes_nothing() -> None:
    world = World()
    junk: list[Any] = [e.RunForgotten(term=1), e.WorkerLeft(incarnation="inc"), object()]
    assert world.hear(*junk) == []
    assert world.machine.sequence == 1


def test_remembered_tokens_and_specifications_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(m, "PAST_MAX", 10)
    monkeypatch.setattr(m, "SPECS_MAX", 10)
    world = World()
    for index in range(50):
        token = attempt_token("g-0", index + 1, 1, "n")
        (attempt,) = started(world.hear(assigned(token=token, run=f"r{index}")))
        world.end(attempt)
        world.machine.forget(token)
    assert len(world.machine._past) <= 11
    assert len(world.machine._specs) <= 10
