"""What an attempt ended as. Rule: pure; the machine's facts first, then what the test says about
itself.

Order: cancelled and limits, then what could not run, then a crash, then the wrong device, then a
failure, then skipped. A test that ran elsewhere than asked proves nothing about the device asked
for, whether it passed or failed there.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

from ...core.model import Cause, TaskSpec, Verdict
from ..processes import Facts
from .report import Report


class Outcome(NamedTuple):
    """Verdict, cause and the first sentence of the message."""

    verdict: Verdict
    cause: Cause
    message: str = ""


def judge_process(spec: TaskSpec, facts: Facts, report: Report) -> Outcome:
    """The outcome of an attempt that had a process of its own."""
    limit = limit_outcome(spec, facts)
    if limit is not None:
        return limit
    end = report.end
    if end is not None and end.status == "config":
        return Outcome(Verdict.ERROR, Cause.CONFIG, end.message)
    if facts.code < 0:
        return Outcome(Verdict.FAILED, Cause.CRASH, f"ended by {signal_name(-facts.code)}")
    if spec.runner == "python" and end is None:
        text = f"the interpreter ended with status {facts.code} before the test did (os._exit?)"
        return Outcome(Verdict.FAILED, Cause.CRASH, text)
    problem = ""
    if end is not None and end.status == "raised":
        problem = end.message or "the test raised an exception"
    elif facts.code != 0:
        problem = f"exit status {facts.code}"
    return judge_report(spec, report, problem)


def judge_report(spec: TaskSpec, report: Report, problem: str) -> Outcome:
    """The outcome as the test tells it. `problem` is why it failed by itself, or ""."""
    if not spec.allow_fallback:
        place = report.placement
        if place is not None and place.requested != place.actual:
            detail = f" ({place.detail})" if place.detail else ""
            text = f"asked for {place.requested}, ran on {place.actual}{detail}"
            return Outcome(Verdict.FALLBACK, Cause.FALLBACK, _joined(text, problem))
        if report.fallen_back:
            text = f"{report.fallen_back} cases ran elsewhere than they were asked to"
            return Outcome(Verdict.FALLBACK, Cause.FALLBACK, _joined(text, problem))
    if problem:
        return Outcome(Verdict.FAILED, Cause.TEST, problem)
    if report.failed:
        text = f"{report.failed} failed cases; first: {report.first_failure}"
        return Outcome(Verdict.FAILED, Cause.TEST, text)
    if report.skip is not None:
        return Outcome(Verdict.SKIPPED, Cause.DONE, report.skip)
    return Outcome(Verdict.PASSED, Cause.DONE)


def limit_outcome(spec: TaskSpec, facts: Facts) -> Outcome | None:
    """The outcome of an attempt that the worker or the kernel ended."""
    if facts.why == "wall":
        text = f"ran longer than wall_ms {spec.wall_ms}"
        return Outcome(Verdict.TIMED_OUT, Cause.WALL_LIMIT, text)
    if facts.why == "silence":
        text = f"wrote nothing for longer than silence_ms {spec.silence_ms}"
        return Outcome(Verdict.TIMED_OUT, Cause.SILENCE_LIMIT, text)
    if facts.why == "memory":
        text = f"used more than the {spec.require.memory_bytes} bytes of memory it asked for"
        return Outcome(Verdict.FAILED, Cause.MEMORY, text)
    if facts.why == "oom":
        text = "killed by the kernel: the machine ran out of memory"
        return Outcome(Verdict.FAILED, Cause.MEMORY, text)
    if facts.why == "scratch":
        text = "wrote more into its scratch directory than this worker allows"
        return Outcome(Verdict.FAILED, Cause.TEST, text)
    if facts.why == "killed":
        return Outcome(Verdict.CANCELLED, Cause.CANCELLED, "cancelled")
    return None


def judge_refusal(stage: str, text: str) -> Outcome:
    """The outcome of an attempt whose process never ran."""
    if stage == "program":
        return Outcome(Verdict.ERROR, Cause.CONFIG, f"cannot run the command: {text}")
    return Outcome(Verdict.ERROR, Cause.SETUP, text)


def signal_name(number: int) -> str:
    """ "SIGSEGV", or "signal 77" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _joined(text: str, problem: str) -> str:
    return f"{text}; {problem}" if problem else text
