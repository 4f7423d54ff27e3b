"""What an attempt ends as: the machine's facts first, then what the test says about itself."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from dtf.core.model import Cause, Requirement, TaskSpec, Verdict
from dtf.worker.processes import Facts
from dtf.worker.runners.outcome import judge_process, judge_refusal, signal_name
from dtf.worker.runners.report import Report

COMMAND = TaskSpec(command=["x"], require=Requirement(memory_bytes=77))
PYTHON = TaskSpec(runner="python", target="m:f")


def facts(code: int = 0, why: str = "") -> Facts:
    return Facts(code=code, why=why, duration_us=1, cpu_us=1, peak_rss=0, output_bytes=0, stored=0)


def reported(*lines: bytes) -> Report:
    report = Report()
    report.feed(b"".join(line + b"\n" for line in lines))
    return report


RETURNED = b'{"end":{"status":"returned"}}'
FAILED_CASE = b'{"case":{"id":"a","verdict":"failed","message":"no"}}'
ELSEWHERE = b'{"placement":{"requested":"cuda","actual":"cpu","detail":"no driver"}}'
SKIP = b'{"skip":{"reason":"too old"}}'


@pytest.mark.parametrize(
    ("given", "lines", "verdict", "cause", "words"),
    [
        (facts(0), [], "passed", "done", ""),
        (facts(3), [], "failed", "test", "exit status 3"),
        (facts(-11), [], "failed", "crash", "SIGSEGV"),
        (facts(-9, "wall"), [], "timed_out", "wall_limit", "3600000"),
        (facts(0, "wall"), [], "timed_out", "wall_limit", ""),
        (facts(-15, "silence"), [], "timed_out", "silence_limit", ""),
        (facts(-9, "memory"), [], "failed", "memory", "77"),
        (facts(-9, "oom"), [], "failed", "memory", "kernel"),
        (facts(-15, "killed"), [], "cancelled", "cancelled", ""),
        (facts(-15, "scratch"), [], "failed", "test", "scratch"),
        (facts(0), [FAILED_CASE], "failed", "test", "a: no"),
        (facts(0), [SKIP], "skipped", "done", "too old"),
        (facts(1), [SKIP], "failed", "test", "exit status 1"),
        (facts(0), [FAILED_CASE, SKIP], "failed", "test", ""),
        (facts(0), [ELSEWHERE], "fallback", "fallback", "asked for cuda, ran on cpu (no driver)"),
        (facts(1), [ELSEWHERE], "fallback", "fallback", "exit status 1"),
        (facts(-6), [ELSEWHERE], "failed", "crash", "SIGABRT"),
    ],
)
def test_outcome_of_a_command(
    given: Facts, lines: list[bytes], verdict: str, cause: str, words: str
) -> None:
    outcome = judge_process(COMMAND, given, reported(*lines))
    assert (outcome.verdict, outcome.cause) == (Verdict(verdict), Cause(cause))
    assert words in outcome.message


@pytest.mark.parametrize(
    ("given", "lines", "verdict", "cause", "words"),
    [
        (facts(0), [RETURNED], "passed", "done", ""),
        (facts(0), [], "failed", "crash", "status 0 before the test did"),
        (facts(7), [], "failed", "crash", "status 7"),
        (facts(-11), [RETURNED], "failed", "crash", "SIGSEGV"),
        (facts(1), [b'{"end":{"status":"raised","message":"E: x"}}'], "failed", "test", "E: x"),
        (facts(1), [b'{"end":{"status":"config","message":"no m"}}'], "error", "config", "no m"),
        (facts(4), [b'{"end":{"status":"exited","exit_code":4}}'], "failed", "test", "status 4"),
        (facts(0), [b'{"end":{"status":"exited"}}', SKIP], "skipped", "done", "too old"),
    ],
)
def test_outcome_of_a_python_task(
    given: Facts, lines: list[bytes], verdict: str, cause: str, words: str
) -> None:
    outcome = judge_process(PYTHON, given, reported(*lines))
    assert (outcome.verdict, outcome.cause) == (Verdict(verdict), Cause(cause))
    assert words in outcome.message


def test_a_fallback_that_was_allowed_passes() -> None:
    spec = TaskSpec(command=["x"], allow_fallback=True)
    assert judge_process(spec, facts(), reported(ELSEWHERE)).verdict is Verdict.PASSED


def test_a_fallback_of_one_case_is_a_fallback_of_the_task() -> None:
    line = b'{"case":{"id":"a","verdict":"fallback"}}'
    assert judge_process(COMMAND, facts(), reported(line)).verdict is Verdict.FALLBACK


@pytest.mark.parametrize(
    ("stage", "cause"), [("program", "config"), ("setup", "setup"), ("supervisor", "setup")]
)
def test_what_never_ran_is_an_error_and_no_failure(stage: str, cause: str) -> None:
    outcome = judge_refusal(stage, "why")
    assert (outcome.verdict, outcome.cause) == (Verdict.ERROR, Cause(cause))


def test_signals_have_names() -> None:
    assert signal_name(signal.SIGKILL) == "SIGKILL"
    assert signal_name(99) == "signal 99"


def test_a_report_is_read_across_any_cut_and_bad_lines_are_counted() -> None:
    whole = (
        b'{"measurement":{"name":"p50","value":1.5,"unit":"ms","samples":[1,2]}}\nnot json\n'
        b'{"unknown":1}\n{"case":{"id":"c","verdict":"passed","duration_us":7}}\n'
        b'{"measurement":{"name":"nan","value":null}}\n'
    )
    for cut in range(0, len(whole), 7):
        report = Report()
        report.feed(whole[:cut])
        report.feed(whole[cut:])
        ((cases, measurements, truncated),) = report.take()
        assert [c.id for c in cases] == ["c"]
        assert [m.samples for m in measurements] == [[1.0, 2.0]]
        assert (report.bad_lines, truncated) == (3, False)
        assert report.take() == []


def test_what_is_too_large_is_cut_and_marked() -> None:
    report = Report()
    report.tell({"case": {"id": "i" * 5000, "verdict": "passed", "message": "m" * 20000}})
    samples: dict[str, Any] = {"name": "n", "value": 1, "samples": [1.0] * 5000}
    report.tell({"measurement": samples})
    parts = report.take()
    assert parts[0][2]
    assert len(parts[0][0][0].id) == 2048
    assert len(parts[0][0][0].message) == 16384
    assert len(parts[0][1][0].samples or ()) == 2000


def test_many_cases_are_cut_into_events_that_fit_a_message() -> None:
    report = Report()
    for index in range(1000):
        report.tell({"case": {"id": f"{index}", "verdict": "passed", "message": "x" * 1000}})
    parts = report.take()
    assert len(parts) > 10
    assert sum(len(cases) for cases, _, _ in parts) == 1000


def test_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtf.worker.runners.report.ENTRIES_MAX", 10)
    report = Report()
    for index in range(20):
        report.tell({"case": {"id": str(index), "verdict": "failed"}})
    ((cases, _, truncated),) = report.take()
    assert (len(cases), truncated, report.failed) == (10, True, 20)
