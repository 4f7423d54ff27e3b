"""Results of cases as the reports pytest's hooks expect.

Rule: what a worker serialised is used as it is; a plain pass, which it does not serialise, is made
here from its three durations; a case that left no report gets one that says why.
"""

from __future__ import annotations

import builtins
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
from _pytest.nodeid import NodeId
from _pytest.reports import CollectErrorRepr

from .seen import CaseSeen, Detail, Warned

Location = tuple[str, int | None, str]
_PHASES = ("setup", "call", "teardown")


def location_of(case_id: str, detail: Detail | None) -> Location:
    """(file, line from 0, name in headlines) as pytest has them for the item."""
    file, _, rest = case_id.partition("::")
    if detail is None:
        return file, None, _domain(rest)
    domain = _domain(rest) if detail.domain is None else detail.domain
    return detail.file or file, detail.line, domain


def _domain(rest: str) -> str:
    """The rule by which the runner leaves a name out (`worker/runners/pytest/cases.py`)."""
    return rest.replace("::", ".")


def reports_of(case: CaseSeen, config: pytest.Config) -> list[pytest.TestReport]:
    """The reports of a case in order: set-up, call and tear-down, subtests among them."""
    detail = case.detail
    if detail is not None and detail.reports:
        return [from_serialised(config, each) for each in detail.reports]
    location = location_of(case.id, detail)
    if case.verdict == "passed":
        return _passed(case, location, detail.t if detail is not None else [])
    if case.verdict == "skipped":
        return _skipped(case, location)
    return _broken(case, location)


def from_serialised(config: pytest.Config, data: dict[str, Any]) -> Any:
    """The report that a worker serialised. Raises ValueError when no plugin knows its kind."""
    if isinstance(data.get("longrepr"), list):
        data["longrepr"] = tuple(data["longrepr"])  # JSON has no tuples; a skip's place is one
    report = config.hook.pytest_report_from_serializable(config=config, data=data)
    if report is None:
        raise ValueError(f"no plugin here reads a report of {data.get('nodeid', 'a test')!r}")
    context = data.get("_subtest.context")
    if context is not None:  # pytest would show what was made readable already once more so
        object.__setattr__(report.context, "kwargs", context["kwargs"])
    return report


def _passed(
    case: CaseSeen, location: Location, times: Sequence[int | None]
) -> list[pytest.TestReport]:
    """Three plain passes, made without `__init__`, which costs more than all the rest."""
    identity = NodeId.parse(case.id)
    if not times:
        times = (0, case.duration_us, 0)
    made = []
    for phase, us in zip(_PHASES, times, strict=False):
        if us is None:
            continue
        report = pytest.TestReport.__new__(pytest.TestReport)
        report.__dict__.update(
            _id=identity, location=location, keywords={}, outcome="passed", longrepr=None,
            when=phase, user_properties=[], sections=[], duration=us / 1e6, start=0.0,
            stop=us / 1e6,
        )  # fmt: skip
        made.append(report)
    return made


def _skipped(case: CaseSeen, location: Location) -> list[pytest.TestReport]:
    reason = (location[0], (location[1] or 0) + 1, f"Skipped: {case.message}")
    return [
        pytest.TestReport(case.id, location, {}, "skipped", reason, "setup"),
        pytest.TestReport(case.id, location, {}, "passed", None, "teardown"),
    ]


def _broken(case: CaseSeen, location: Location) -> list[pytest.TestReport]:
    """Reports of a case whose own are lost with its process."""
    text = case.message or f"the case ended as {case.verdict} without a word"
    if case.detail is not None and case.detail.tail:
        text += f"\n\nIts last output:\n{case.detail.tail}"
    seconds = case.duration_us / 1e6
    if case.verdict == "error":
        first = pytest.TestReport(case.id, location, {}, "failed", text, "setup", (), seconds)
        return [first, pytest.TestReport(case.id, location, {}, "passed", None, "teardown")]
    return [
        pytest.TestReport(case.id, location, {}, "passed", None, "setup"),
        pytest.TestReport(case.id, location, {}, "failed", text, "call", (), seconds),
        pytest.TestReport(case.id, location, {}, "passed", None, "teardown"),
    ]


def collect_report(case: CaseSeen, config: pytest.Config) -> pytest.CollectReport:
    """The report of a file that has no cases to run: an error, or skipped as a whole."""
    detail = case.detail
    if detail is not None and detail.collect is not None:
        report: pytest.CollectReport = from_serialised(config, detail.collect)
        report.result = report.result or []
        if isinstance(report.longrepr, str):  # short texts are serialised without their kind
            report.longrepr = CollectErrorRepr(report.longrepr)
        return report
    if case.verdict == "skipped":
        reason = (case.id, 1, f"Skipped: {case.message}")
        return pytest.CollectReport(case.id, "skipped", reason, [])
    return failed_collection(case.id, case.message or "it could not be collected")


def failed_collection(file: str, message: str) -> pytest.CollectReport:
    """A file that no worker gave cases of, and why."""
    return pytest.CollectReport(file, "failed", CollectErrorRepr(message), [])


def tell_warning(config: pytest.Config, warned: Warned) -> None:
    """pytest has recorded the warning as if it were given here."""
    record = warnings.WarningMessage(
        message=warned.message,
        category=_category(warned.category),
        filename=warned.filename,
        lineno=warned.lineno,
    )
    config.hook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": record,
            "when": warned.when,
            "nodeid": warned.nodeid,
            "location": None,
        }
    )


def _category(name: str) -> type[Warning]:
    """The class of that name, or one that only bears it: the worker's need not be here."""
    short = name.rpartition(".")[2]
    for place in (builtins, pytest):
        found = getattr(place, short, None)
        if isinstance(found, type) and issubclass(found, Warning):
            return found
    return type(short, (Warning,), {})
