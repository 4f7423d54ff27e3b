"""Reports of a run: JUnit as CI systems take it, Markdown for a comment, JSON with everything."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from dtf.projections.reports.document import json_text
from dtf.projections.reports.gather import RunReport
from dtf.projections.reports.junit import junit_xml
from dtf.projections.reports.markdown import FAILURES_SHOWN, markdown_text

# What Jenkins' junit-10 schema allows: element -> (attributes, those required, children).
FORM: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp",
         "hostname", "id", "package", "file", "log", "url", "version"},
        {"name", "tests", "failures", "errors"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": (
        {"name", "time", "classname", "group"},
        {"name"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
    "skipped": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}  # fmt: skip
SECONDS = re.compile(r"\d+(\.\d{1,3})?")


def check_form(element: ET.Element) -> None:
    allowed, required, children = FORM[element.tag]
    assert set(element.attrib) <= allowed, element.tag
    assert required <= set(element.attrib), element.tag
    if "time" in element.attrib:
        assert SECONDS.fullmatch(element.attrib["time"])
    for child in element:
        assert child.tag in children, f"{child.tag} in {element.tag}"
        check_form(child)


def task(index: int = 0, verdict: str | None = "passed", **given: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "task": f"g-{index}", "task_index": index, "label": "resnet", "params": None,
        "hardware": "cuda", "state": "settled" if verdict else "running", "verdict": verdict,
        "cause": "done" if verdict == "passed" else "test", "attempts": 1, "worker": "w1",
        "duration_us": 1500, "exit_code": None, "message": None, "value": None, "cpu_us": None,
        "peak_rss_bytes": None, "requested": None, "actual": None, "output_digest": None,
        "output_tail": None, "settled_at": None, "assigned_pos": index, "group_pos": 1,
        "group_name": "g", "cases": [], "measurements": [], "artifacts": [],
    }  # fmt: skip
    return row | given


def report(*tasks: dict[str, Any]) -> RunReport:
    counts = {
        verdict: sum(t["verdict"] == verdict for t in tasks)
        for verdict in ("passed", "failed", "skipped", "fallback", "timed_out", "cancelled",
                        "no_capacity", "error")
    }  # fmt: skip
    run = {
        "run": "abc", "name": "nightly", "publisher": "ann", "verdict": "failed",
        "state": "settled", "tasks": len(tasks), "queued": 0, "active": 0, "reason": None,
        "labels": '{"branch":"main"}', "submitted_at": "2026-01-02T03:04:05.678Z",
        "wall_us": 2_000_000, **counts,
    }  # fmt: skip
    group = {
        "label": "resnet", "group_name": "g", "hardware": "cuda", "runner": "python",
        "target": "m:f", "group_pos": 1, "queued": 0, "active": 0,
    }  # fmt: skip
    return RunReport(run=run, groups=[group], tasks=list(tasks))


def parsed(told: RunReport) -> ET.Element:
    root = ET.fromstring(junit_xml(told))
    check_form(root)
    return root


def case(verdict: str, name: str = "t1", message: str | None = None) -> dict[str, Any]:
    return {
        "case_id": name,
        "verdict": verdict,
        "duration_us": 7000,
        "message": message,
        "tries": 1,
        "detail": None,
    }


@pytest.mark.parametrize(
    ("verdict", "tag"),
    [
        ("passed", None), ("failed", "failure"), ("timed_out", "failure"),
        ("fallback", "failure"), ("error", "error"), ("no_capacity", "error"),
        ("skipped", "skipped"), ("cancelled", "skipped"), (None, "skipped"),
    ],
)  # fmt: skip
def test_every_verdict_has_its_place_in_junit(verdict: str | None, tag: str | None) -> None:
    root = parsed(report(task(verdict=verdict)))
    (found,) = root.iter("testcase")
    assert [child.tag for child in found] == ([tag] if tag else [])
    suite = root.find("testsuite")
    assert suite is not None
    counted = {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")}
    assert counted == {
        "tests": 1,
        "failures": int(tag == "failure"),
        "errors": int(tag == "error"),
        "skipped": int(tag == "skipped"),
    }


def test_a_failure_in_junit_tells_the_story() -> None:
    bad = task(
        verdict="fallback", message="asked for cuda", worker="w7", exit_code=3, attempts=2,
        requested="cuda", actual="cpu", output_tail="first\nlast words",
    )  # fmt: skip
    failure = parsed(report(bad)).find(".//failure")
    assert failure is not None
    assert failure.attrib == {"message": "asked for cuda", "type": "fallback"}
    for told in ("worker w7", "exit code 3", "attempts 2", "ran on cpu", "last words"):
        assert told in (failure.text or "")


def test_cases_are_test_cases() -> None:
    two = [case("passed", "t1"), case("failed", "t2", "assert 1 == 2\nmore")]
    root = parsed(report(task(verdict="failed", cases=two)))
    assert [found.attrib["name"] for found in root.iter("testcase")] == ["t1", "t2"]
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == "assert 1 == 2"


def test_a_task_that_broke_after_its_cases_passed_is_seen() -> None:
    root = parsed(report(task(verdict="timed_out", cases=[case("passed")])))
    assert [found.attrib["name"] for found in root.iter("testcase")] == ["t1", "g-0"]
    assert root.attrib["failures"] == "1"


def test_properties_and_measurements_are_in_junit() -> None:
    measured = [{"name": "latency", "value": 1.25, "unit": "ms", "case_id": None, "samples": None}]
    root = parsed(report(task(measurements=measured)))
    properties = {p.attrib["name"]: p.attrib["value"] for p in root.iter("property")}
    assert properties == {
        "run": "abc", "publisher": "ann", "group": "g", "hardware": "cuda", "runner": "python",
        "target": "m:f", "label.branch": "main",
    }  # fmt: skip
    assert root.findtext(".//system-out") == "latency = 1.25 ms"


def test_what_xml_cannot_hold_does_not_break_junit() -> None:
    hostile = "a\x00b\x1b[31m ]]> <&> \ud83d\udca5".encode("utf-16", "surrogatepass").decode(
        "utf-16"
    )
    root = parsed(report(task(verdict="failed", message=hostile, output_tail="\x07\ufffe")))
    failure = root.find(".//failure")
    assert failure is not None
    assert "]]> <&>" in failure.attrib["message"]


def test_markdown_shows_verdict_matrix_and_failures() -> None:
    told = markdown_text(
        report(
            task(0),
            task(1, "failed", message="a | b", output_tail="some\n```\noutput"),
            task(2, hardware="cpu", duration_us=2_500_000),
        )
    )
    assert told.startswith("## ❌ nightly: failed\n")
    assert "3 tasks: 2 passed, 1 failed" in told
    assert "| | cpu | cuda |" in told
    assert "| resnet | ✅ · 2.5 s | ❌ failed 1/2 · 1.5 ms |" in told
    assert "a \\| b" in told
    assert "  ````text\n" in told  # a fence longer than any in the output


def test_markdown_counts_what_it_leaves_out() -> None:
    told = markdown_text(report(*[task(i, "failed") for i in range(FAILURES_SHOWN + 5)]))
    assert told.count("- **resnet**") == FAILURES_SHOWN
    assert "... and 5 more." in told


def test_json_has_everything_and_names_its_schema() -> None:
    told = msgspec.json.decode(json_text(report(task(cases=[case("passed")]))))
    assert told["schema"] == "dtf.report/1"
    assert told["run"]["name"] == "nightly"
    assert told["tasks"][0]["cases"] == [case("passed")]
