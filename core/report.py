"""What a test says about itself while it runs: cases, measurements, where it ran.

Rule: works without dtf, imports nothing heavy.

Under a worker each call appends one JSON line to the file named by `DTF_REPORT` (one `write`, so
threads and child processes may report too); without a worker the calls do nothing but check their
arguments, so a script runs unchanged by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

REPORT_ENV = "DTF_REPORT"
PARAMS_ENV = "DTF_PARAMS"
VERDICTS = ("passed", "failed", "skipped", "fallback", "error", "timed_out")

Sink = Callable[[dict[str, Any]], None]
sink: ContextVar[Sink | None] = ContextVar("dtf_report_sink", default=None)
"""Set by the in-process runner; a process of its own reports through the file instead."""
task_params: ContextVar[dict[str, Any] | None] = ContextVar("dtf_task_params", default=None)


def _send(line: dict[str, Any]) -> None:
    receiver = sink.get()
    if receiver is not None:
        receiver(line)
        return
    path = os.environ.get(REPORT_ENV)
    if not path:
        return
    data = json.dumps(line, ensure_ascii=True, allow_nan=False).encode() + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, data)
    finally:
        os.close(file)


def _running_case() -> str | None:
    """The node id of the test that the pool's pytest runner runs now."""
    running = os.environ.get("PYTEST_CURRENT_TEST")
    if not running or "DTF_PYTEST_HOST" not in os.environ:
        return None
    return running.rpartition(" (")[0] or None


def params() -> dict[str, Any]:
    """The parameters of the running task (matrix values); empty outside a task."""
    here = task_params.get()
    if here is not None:
        return dict(here)
    return dict(json.loads(os.environ.get(PARAMS_ENV) or "{}"))


def measure(
    name: str,
    value: float,
    unit: str = "",
    *,
    samples: Iterable[float] | None = None,
    case: str | None = None,
) -> None:
    """Record one number: `value` in `unit`, with the raw `samples` behind it. `case` is by default
    the test that the pytest runner runs.

    Raises ValueError for NaN or infinity.
    """
    line: dict[str, Any] = {"name": str(name), "value": float(value), "unit": unit}
    if samples is not None:
        line["samples"] = [float(sample) for sample in samples]
    case = _running_case() if case is None else case
    if case is not None:
        line["case"] = case
    numbers = [line["value"], *line.get("samples", ())]
    if any(number != number or number in (float("inf"), float("-inf")) for number in numbers):
        raise ValueError(
            f"measurement {name!r} must be finite, got {value!r}; leave out what is unknown"
        )
    _send({"measurement": line})


def case(id: str, verdict: str, *, duration_s: float | None = None, message: str = "") -> None:  # noqa: A002
    """Record the verdict of one case inside the task.

    A failed case fails the task unless the task itself says more.
    """
    if verdict not in VERDICTS:
        raise ValueError(
            f"verdict of case {id!r} must be one of {', '.join(VERDICTS)}, got {verdict!r}"
        )
    line: dict[str, Any] = {"id": str(id), "verdict": verdict}
    if duration_s is not None:
        line["duration_us"] = int(duration_s * 1e6)
    if message:
        line["message"] = message[:16384]
    _send({"case": line})


def placed(requested: str, actual: str, detail: str = "") -> None:
    """Say where the test really ran.

    Different from what was asked ends the task as `fallback`, unless allowed.
    """
    _send({"placement": {"requested": requested, "actual": actual, "detail": detail}})


def skip(reason: str) -> None:
    """End the task as skipped: call it, then return or exit with status 0."""
    _send({"skip": {"reason": reason}})
