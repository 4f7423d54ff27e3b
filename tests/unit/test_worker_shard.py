"""A shard whose process dies: who is blamed, what is tried again, what goes on."""

from __future__ import annotations

import msgspec
from dtf.core.model import Verdict
from dtf.worker.processes import Facts
from dtf.worker.runners.report import Report
from dtf.worker.runners.shard import CUT_STATUS, Shard

A, B, C = "a.py::one", "a.py::two", "b.py::three"
SHARD = {"files": [{"path": "a.py"}, {"path": "b.py"}], "budget_ms": 250}


class Told:
    """A report as processes write it, one after the other."""

    def __init__(self) -> None:
        self.report = Report()
        self.report.done = set()

    def says(self, *lines: dict) -> Report:
        self.report.cut()
        for line in lines:
            self.report.line(msgspec.json.encode(line))
        return self.report


def begin(name: str) -> dict:
    return {"begin": name}


def passed(name: str) -> dict:
    return {"case": {"id": name, "verdict": "passed"}}


def end(**value: object) -> dict:
    return {"end": {"status": "returned", "value": value}}


def facts(code: int = 0, why: str = "") -> Facts:
    return Facts(
        code=code, why=why, duration_us=1, cpu_us=1, peak_rss=1, output_bytes=0, stored=0, tail=b"!"
    )


def test_a_shard_that_returns_is_over_and_returns_its_value() -> None:
    shard = Shard(SHARD)
    assert not shard.ended(facts(), Told().says(passed(A), end(rest=[], open=True)))
    assert shard.work is None
    assert shard.value is not None
    assert msgspec.json.decode(shard.value) == {"rest": [], "missing": [], "open": True}


def test_a_case_that_crashed_is_tried_alone_and_the_rest_goes_on() -> None:
    shard, told = Shard(SHARD), Told()
    assert not shard.ended(facts(-11), told.says(passed(A), begin(B)))
    assert shard.work is not None
    assert shard.work.again == B
    assert shard.work.params == {"files": [{"path": "a.py", "ids": [B]}]}
    report = told.says(begin(B), passed(B), end())
    (case,) = shard.retold(report.cases[1:])
    assert case.verdict is Verdict.PASSED
    assert case.tries == 2
    assert "SIGSEGV" in case.message
    assert not shard.ended(facts(), report)
    assert shard.work is not None
    assert shard.work.params["files"] == [{"path": "a.py", "not": [A, B]}, {"path": "b.py"}]
    assert not shard.ended(facts(), told.says(passed(C), end()))
    assert shard.work is None


def test_a_case_that_crashes_twice_fails_and_costs_only_itself() -> None:
    shard, told = Shard(SHARD), Told()
    shard.ended(facts(-6), told.says(begin(A)))
    (case,) = shard.ended(facts(-6), told.says(begin(A)))
    assert (case.id, case.verdict, case.tries) == (A, Verdict.FAILED, 2)
    assert "SIGABRT" in case.message
    assert msgspec.json.decode(case.detail)["tail"] == "!"
    assert shard.work is not None
    assert shard.work.params["files"][0] == {"path": "a.py", "not": [A]}


def test_a_case_cut_at_its_limit_timed_out_and_is_not_tried_again() -> None:
    shard = Shard(SHARD)
    (case,) = shard.ended(facts(CUT_STATUS), Told().says(passed(A), begin(B)))
    assert (case.id, case.verdict, case.tries) == (B, Verdict.TIMED_OUT, 1)
    assert shard.work is not None
    assert shard.work.params["files"][0] == {"path": "a.py", "not": [A, B]}


def test_the_limit_of_the_attempt_ends_it_and_names_the_case_that_ran() -> None:
    shard = Shard(SHARD)
    (case,) = shard.ended(facts(-9, "wall"), Told().says(begin(A)))
    assert (case.id, case.verdict) == (A, Verdict.TIMED_OUT)
    assert shard.work is None
    assert shard.stopped


def test_a_cancelled_shard_blames_nobody() -> None:
    shard = Shard(SHARD)
    assert not shard.ended(facts(-9, "killed"), Told().says(begin(A)))
    assert shard.work is None


def test_a_file_that_ends_the_interpreter_when_imported_is_found() -> None:
    shard, told = Shard(SHARD), Told()
    assert not shard.ended(facts(3), told.says())
    assert shard.work is not None
    assert shard.work.params["files"] == [{"path": "a.py"}]
    (case,) = shard.ended(facts(3), told.says())
    assert (case.id, case.verdict) == ("a.py", Verdict.ERROR)
    assert "status 3" in case.message
    assert shard.work is not None
    assert shard.work.params["files"] == [{"path": "b.py"}]
    shard.ended(facts(), told.says(passed(C), end()))
    assert shard.work is None


def test_an_end_between_cases_again_and_again_comes_to_an_end() -> None:
    shard, told = Shard({"files": [{"path": "a.py"}]}), Told()
    shard.ended(facts(-9), told.says(passed(A)))
    (case,) = shard.ended(facts(-9), told.says())
    assert case.verdict is Verdict.ERROR
    assert shard.work is None


def test_a_session_ended_by_a_test_runs_nothing_more() -> None:
    shard, told = Shard(SHARD), Told()
    shard.ended(facts(-11), told.says(begin(A)))
    shard.ended(facts(2), told.says({"end": {"status": "interrupted", "message": "stop"}}))
    assert shard.work is None


def test_shards_of_ids_keep_what_is_left() -> None:
    shard = Shard({"files": [{"path": "a.py", "ids": [A, B]}]})
    shard.ended(facts(CUT_STATUS), Told().says(begin(A)))
    assert shard.work is not None
    assert shard.work.params["files"] == [{"path": "a.py", "ids": [B]}]
