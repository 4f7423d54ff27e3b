"""What the log teaches about durations: by history, hardware, file and case."""

from __future__ import annotations

import time

from dtf.core import events as e
from dtf.core.ask_durations import DurationsReply, replies
from dtf.core.durations import Durations
from dtf.core.fold import Judged
from dtf.core.model import Case, Requirement, TaskSpec, Verdict
from dtf.core.ports import Message
from dtf.core.subjects import Subject
from msgspec import json

TOKEN = "shards-0.1.x.y"


def judged(kind: str, *events: e.Event, void: str = "", run: str = "r1") -> Judged:
    return Judged(Message(1, "", b""), Subject(kind, "w", run), events, [void] * len(events))


def submitted(history: str = "suite", hardware: str = "cpu") -> e.TasksSubmitted:
    spec = TaskSpec(runner="pytest", history=history, require=Requirement(hardware=hardware))
    return e.TasksSubmitted(part=0, group="shards", spec=spec, count=1)


def reported(**us: int) -> e.CasesReported:
    cases = [
        Case(id=f"t.py::{name}", verdict=Verdict.PASSED, duration_us=each)
        for name, each in us.items()
    ]
    return e.CasesReported(token=TOKEN, n=0, cases=cases)


def known(durations: Durations, history: str = "suite", hardware: str = "cpu") -> dict:
    return {path: dict(cases) for path, cases in durations.known(history, hardware)}


def test_durations_are_remembered_where_the_task_says() -> None:
    durations = Durations()
    durations.observe(judged("run", submitted()))
    durations.observe(judged("attempt", reported(a=100, b=50)))
    assert known(durations) == {"t.py": {"t.py::a": 100, "t.py::b": 50}}
    assert known(durations, hardware="cuda") == {}
    assert known(durations, history="other") == {}


def test_a_new_duration_moves_the_old_one_half_way() -> None:
    durations = Durations()
    durations.observe(judged("run", submitted()))
    for us in (100, 200, 200):
        durations.observe(judged("attempt", reported(a=us)))
    assert known(durations) == {"t.py": {"t.py::a": 175}}


def test_what_the_fold_voids_teaches_nothing() -> None:
    durations = Durations()
    durations.observe(judged("run", submitted(), void="duplicate"))
    durations.observe(judged("attempt", reported(a=100)))
    durations.observe(judged("run", submitted(), run="r2"))
    durations.observe(judged("attempt", reported(a=100), void="closed", run="r2"))
    assert known(durations) == {}


def test_tasks_without_a_history_teach_nothing() -> None:
    durations = Durations()
    durations.observe(judged("run", submitted(history="")))
    durations.observe(judged("attempt", reported(a=100)))
    assert durations.count == 0


def test_a_settled_run_is_forgotten_and_its_durations_stay() -> None:
    durations = Durations()
    durations.observe(judged("run", submitted()))
    durations.observe(judged("attempt", reported(a=100)))
    durations.observe(judged("ruling", e.RunSettled(term=1, verdict=Verdict.PASSED, counts={})))
    durations.observe(judged("attempt", reported(b=100)))
    assert known(durations) == {"t.py": {"t.py::a": 100}}


def test_only_cases_that_ended_by_themselves_count() -> None:
    durations = Durations()
    durations.observe(judged("run", submitted()))
    cases = [
        Case(id=f"t.py::{verdict.value}", verdict=verdict, duration_us=5) for verdict in Verdict
    ]
    cases.append(Case(id="t.py::untimed", verdict=Verdict.PASSED))
    durations.observe(judged("attempt", e.CasesReported(token=TOKEN, n=0, cases=cases)))
    assert known(durations) == {"t.py": {"t.py::passed": 5, "t.py::failed": 5}}


def test_shared_fixtures_of_a_file_are_remembered_until_they_are_gone() -> None:
    def collected(scoped: bool) -> e.CasesCollected:
        return e.CasesCollected(token=TOKEN, n=0, file="t.py", selected=1, scoped=scoped)

    durations = Durations()
    durations.observe(judged("run", submitted()))
    durations.observe(judged("attempt", collected(True), reported(a=100)))
    assert known(durations) == {"t.py": {"": 1, "t.py::a": 100}}
    durations.observe(judged("attempt", collected(False)))
    assert known(durations) == {"t.py": {"t.py::a": 100}}
    assert durations.count == 1


def test_the_files_updated_longest_ago_go_first() -> None:
    durations = Durations(cases_max=4)
    durations.observe(judged("run", submitted()))

    def report(path: str, *names: str) -> None:
        cases = [Case(id=f"{path}::{n}", verdict=Verdict.PASSED, duration_us=1) for n in names]
        durations.observe(judged("attempt", e.CasesReported(token=TOKEN, n=0, cases=cases)))

    report("a.py", "x", "y")
    report("b.py", "x", "y")
    report("a.py", "x")
    report("c.py", "x")
    assert set(known(durations)) == {"a.py", "c.py"}
    report("d.py", *"12345678")
    assert durations.count == 4
    assert set(known(durations)) == {"d.py"}


def test_runs_that_never_settle_do_not_add_up() -> None:
    durations = Durations()
    for number in range(5_000):
        durations.observe(judged("run", submitted(), run=f"r{number}"))
    assert len(durations._runs) == 4_096


def test_a_message_of_a_run_without_history_costs_next_to_nothing() -> None:
    durations = Durations()
    message = judged("attempt", reported(a=100), run="other")
    begun = time.process_time()
    for _ in range(100_000):
        durations.observe(message)
    assert (time.process_time() - begun) / 100_000 < 3e-6  # the fold takes 10 to 100 times that


def test_an_answer_is_cut_into_messages_and_joins_again() -> None:
    files = {f"t{n}.py": {f"t{n}.py::x{m}": m for m in range(n * 40)} for n in range(8)}
    messages = list(replies(files.items(), 4_000))
    assert len(messages) > 5
    assert max(map(len, messages)) < 4_500
    parts = [json.decode(each, type=DurationsReply) for each in messages]
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    joined: dict[str, dict[str, int]] = {}
    for part in parts:
        for path, cases in part.files.items():
            joined.setdefault(path, {}).update(cases)
    assert joined == files
