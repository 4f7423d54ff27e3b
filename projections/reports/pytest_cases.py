"""Cases of runner `pytest` as pytest's own JUnit file has them. Rule: case by case the same name,
outcome and message, from the reports that pytest made where the case ran.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

XFAIL_PASSED = "xfail-marked test passes unexpectedly"
Row = dict[str, Any]


class Mark(msgspec.Struct, frozen=True):
    """What stands in a test case: `failure`, `error` or `skipped`."""

    tag: str
    message: str
    text: str | None = None
    kind: str = ""


def address(case_id: str) -> tuple[str, str]:
    """(classname, name) of a node id."""
    path, bracket, params = case_id.partition("[")
    names = path.split("::")
    names[0] = names[0].replace("/", ".").removesuffix(".py")
    names[-1] += bracket + params
    return ".".join(names[:-1]), names[-1]


def marks(case: Row) -> list[Mark]:
    """What the reports of the case say, in their order; empty for a plain pass, and where pytest is
    not installed to read them.
    """
    detail = msgspec.json.decode(case["detail"] or "{}", type=dict[str, Any])
    told = [*detail.get("reports", ()), *filter(None, [detail.get("collect")])]
    return [mark for report in map(_revive, told) if report is not None for mark in _of(report)]


def properties(case: Row) -> ET.Element | None:
    """What the case recorded about itself, or None."""
    detail = msgspec.json.decode(case["detail"] or "{}", type=dict[str, Any])
    found = {
        str(name): str(value)
        for report in detail.get("reports", ())
        if report.get("when") == "teardown"
        for name, value in report.get("user_properties", ())
    }
    if not found:
        return None
    element = ET.Element("properties")
    for name, value in found.items():
        ET.SubElement(element, "property", name=name, value=value)
    return element


def _revive(data: dict[str, Any]) -> Any:
    """The report as pytest had it; None without pytest, or from a version that tells it apart."""
    with contextlib.suppress(ImportError, AttributeError, KeyError, TypeError):
        from _pytest.reports import CollectReport, TestReport

        kind = CollectReport if data.get("$report_type") == "CollectReport" else TestReport
        return kind._from_json(data)
    return None


def _of(report: Any) -> Iterator[Mark]:
    """The marks of one report, after pytest's own `LogXML`."""
    when, longrepr = getattr(report, "when", "collect"), report.longrepr
    if report.outcome == "failed":
        message = _message(longrepr)
        if when == "collect":
            yield Mark("error", "collection failure", str(longrepr))
        elif when != "call":
            stage = "teardown" if when == "teardown" else "setup"
            yield Mark("error", f'failed on {stage} with "{message}"', str(longrepr))
        elif hasattr(report, "wasxfail"):
            yield Mark("skipped", XFAIL_PASSED)
        else:
            yield Mark("failure", message, str(longrepr))
    elif report.outcome == "skipped":
        if when == "collect":
            yield Mark("skipped", "collection skipped", str(longrepr))
        elif hasattr(report, "wasxfail"):
            reason = str(report.wasxfail).removeprefix("reason: ")
            yield Mark("skipped", reason, kind="pytest.xfail")
        else:
            path, line, reason = longrepr
            reason = reason.removeprefix("Skipped: ")
            yield Mark("skipped", reason, f"{path}:{line}: {reason}", "pytest.skip")


def _message(longrepr: Any) -> str:
    crash = getattr(longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else longrepr)
