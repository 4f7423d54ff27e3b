"""The lane of in-process tasks: in turn, in batches, and never in the loop's way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from dtf.core import events as e
from dtf.core import report
from dtf.core.model import ABSENT, Cause, TaskSpec, Verdict
from dtf.worker.attempt import Attempt
from dtf.worker.machine import Machine
from dtf.worker.runners import inline as i

CALLS: list[Any] = []
GATE = threading.Event()


def note(value: Any = None) -> Any:
    CALLS.append(value)
    return value


def wait() -> None:
    GATE.wait(30)


def talk() -> None:
    print("said", end="")
    report.measure("n", 2.0, "ms")
    report.case("c", "failed", message="why")
    raise ValueError("at the end")


def leave() -> None:
    raise SystemExit(4)


def parameters() -> dict[str, Any]:
    return report.params()


class Bench:
    """A lane whose results a test can wait for."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.lane = i.InlineLane(self.woken.set)
        self.results: list[Any] = []
        self.arrivals = 0

    def attempt(self, name: str, params: Any = None) -> Attempt:
        self.arrivals += 1
        spec = TaskSpec(runner="python", target=f"{__name__}:{name}", isolation="none")
        raw = ABSENT if params is None else msgspec.Raw(msgspec.json.encode(params))
        event = e.TaskAssigned(
            term=1, run="r", token=f"g-{self.arrivals}.1.1.n", incarnation="i", params=raw
        )
        return Attempt(Machine("i", 1, 1), event, spec, self.arrivals)

    def take(self, count: int) -> list[Any]:
        """The next results, in order."""
        while len(self.results) < count:
            assert self.woken.wait(30), "no result in 30 s"
            self.woken.clear()
            while self.lane.results:
                self.results.append(self.lane.results.popleft())
        return self.results


@pytest.fixture
def bench() -> Iterator[Bench]:
    CALLS.clear()
    GATE.clear()
    bench = Bench()
    yield bench
    GATE.set()
    assert bench.lane.stop(30)


def test_tasks_run_in_turn_and_return_their_values(bench: Bench) -> None:
    attempts = [bench.attempt("note", {"value": n}) for n in range(500)]
    bench.lane.start(attempts)
    results = bench.take(500)
    assert list(range(500)) == CALLS
    assert [r[0] for r in results] == attempts
    assert [msgspec.json.decode(r[2]) for r in results] == list(range(500))
    assert all(r[1] >= 0 for r in results)


def test_it_sleeps_when_there_is_nothing_and_wakes_for_more(bench: Bench) -> None:
    for count in range(1, 20):
        bench.lane.start([bench.attempt("note")])
        bench.take(count)
    assert bench.lane.current is None


def test_who_waits_can_be_taken_back_and_who_runs_can_not(bench: Bench) -> None:
    running, waiting = bench.attempt("wait"), bench.attempt("note")
    bench.lane.start([running, waiting])
    while bench.lane.current is not running:
        pass
    assert not bench.lane.take_back(running)
    assert bench.lane.take_back(waiting)
    assert not bench.lane.take_back(waiting)
    assert not bench.lane.idle
    GATE.set()
    assert [r[0] for r in bench.take(1)] == [running]
    assert CALLS == []


def test_a_task_that_fails_prints_and_reports(bench: Bench) -> None:
    bench.lane.start([bench.attempt("talk"), bench.attempt("note")])
    result, after = bench.take(2)
    ended = result.ended
    assert (ended.verdict, ended.cause) == (Verdict.FAILED, Cause.TEST)
    assert ended.message.startswith("ValueError: at the end")
    assert ended.output.tail == "said"
    ((cases, measurements, _),) = result.report.take()
    assert (cases[0].id, measurements[0].name) == ("c", "n")
    assert isinstance(after, tuple), "nothing of it is left for the next task"


def test_an_exit_is_an_exit_of_the_task(bench: Bench) -> None:
    bench.lane.start([bench.attempt("leave"), bench.attempt("note")])
    result, _ = bench.take(2)
    assert (result.ended.verdict, result.ended.message) == (Verdict.FAILED, "exit status 4")


def test_parameters_are_those_of_the_task(bench: Bench) -> None:
    bench.lane.start([bench.attempt("note", {"value": 1}), bench.attempt("parameters")])
    _, second = bench.take(2)
    assert bytes(second[2]) == b"{}"


@pytest.mark.parametrize("name", ["nothing", "CALLS"])
def test_what_cannot_be_called_is_an_error_of_the_task(bench: Bench, name: str) -> None:
    bench.lane.start([bench.attempt(name)])
    (result,) = bench.take(1)
    assert (result.ended.verdict, result.ended.cause) == (Verdict.ERROR, Cause.CONFIG)


def returns(value: Any) -> Callable[[], Any]:
    return lambda: value


@pytest.mark.parametrize("value", [object(), "x" * 70_000, {1: {2}}.keys()])
def test_a_value_that_cannot_travel_is_left_out_and_said(value: Any) -> None:
    raw, message = i.encode_value(value)
    assert raw is ABSENT
    assert "left out" in message
