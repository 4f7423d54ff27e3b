"""JUnit XML, as CI systems read it: one suite a group, one test case for each case or task.

Rule: every task is visible; a task that broke without a failed case gets a test case of its own.
The form is that of Jenkins' junit-10 schema: hence no more attributes, and times in milliseconds.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from .gather import RunReport
from .pytest_cases import Mark, address, marks, properties

FAILURES = frozenset({"failed", "timed_out", "fallback"})
ERRORS = frozenset({"error", "no_capacity"})
TAIL_CHARACTERS = 16_384
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Row = dict[str, Any]


def junit_xml(report: RunReport) -> str:
    """The report as an XML document."""
    run = report.run
    root = ET.Element("testsuites", name=_text(run["name"] or run["run"]))
    totals = dict.fromkeys(("tests", "failures", "errors"), 0)
    by_group: dict[int, list[Row]] = {}
    for task in report.tasks:
        by_group.setdefault(task["group_pos"], []).append(task)
    for number, group in enumerate(report.groups):
        suite = _suite(run, group, by_group.get(group["group_pos"], []), number)
        root.append(suite)
        for key in totals:
            totals[key] += int(suite.attrib[key])
    for key, total in totals.items():
        root.set(key, str(total))
    root.set("time", _seconds(run["wall_us"]))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _suite(run: Row, group: Row, tasks: list[Row], number: int) -> ET.Element:
    suite = ET.Element("testsuite", name=_text(group["label"]), id=str(number))
    properties = ET.SubElement(suite, "properties")
    told = {
        "run": run["run"], "publisher": run["publisher"], "group": group["group_name"],
        "hardware": group["hardware"], "runner": group["runner"], "target": group["target"],
        "queued": group["queued"] or None, "active": group["active"] or None,
        **_labels(run["labels"]),
    }  # fmt: skip
    for name, value in told.items():
        if value is not None:
            ET.SubElement(properties, "property", name=_text(name), value=_text(value))
    of_pytest = group["runner"] == "pytest"
    for task in tasks:
        suite.extend(_pytest_cases(task) if of_pytest else _task_cases(task))
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", _seconds(sum(task["duration_us"] or 0 for task in tasks)))
    if run["submitted_at"]:
        suite.set("timestamp", str(run["submitted_at"])[:19])
    return suite


def _labels(labels: str | None) -> dict[str, Any]:
    return {f"label.{key}": value for key, value in msgspec.json.decode(labels or "{}").items()}


def _task_cases(task: Row) -> list[ET.Element]:
    cases = [_case(task, case) for case in task["cases"]]
    verdict = task["verdict"] or task["state"]
    told = {case["verdict"] for case in task["cases"]}
    if not cases or (verdict != "passed" and verdict not in told):
        cases.append(_whole(task, verdict))
    return cases


def _pytest_cases(task: Row) -> list[ET.Element]:
    """As pytest's own file has them; a task that ended without any case stands for itself."""
    if not task["cases"]:
        return [] if task["verdict"] in ("passed", "skipped") else _task_cases(task)
    return [element for case in task["cases"] for element in _pytest_case(case)]


def _pytest_case(case: Row) -> list[ET.Element]:
    told = marks(case)
    if [mark.tag for mark in told[-2:]] == ["failure", "error"]:  # call and teardown: two entries
        return [_pytest_entry(case, told[:-1]), _pytest_entry(case, told[-1:])]
    return [_pytest_entry(case, told)]


def _pytest_entry(case: Row, told: list[Mark]) -> ET.Element:
    where, name = address(case["case_id"])
    element = ET.Element(
        "testcase", classname=_text(where), name=_text(name), time=_seconds(case["duration_us"])
    )
    found = properties(case)
    if found is not None:
        element.append(found)
    for mark in told:
        tag = ET.SubElement(element, mark.tag, message=_text(mark.message))
        if mark.kind:
            tag.set("type", mark.kind)
        tag.text = _text(mark.text) if mark.text is not None else None
    if not told:
        story = case["message"] or case["verdict"]
        _judge(element, case["verdict"], story.partition("\n")[0], story)
    return element


def _whole(task: Row, verdict: str) -> ET.Element:
    name = task["task"] + (f" {task['params']}" if task["params"] else "")
    element = _element(task, name, task["duration_us"])
    message = task["message"] or task["cause"] or verdict
    _judge(element, verdict, message, _story(task))
    lines = [
        f"{m['name']} = {m['value']:g}{' ' + m['unit'] if m['unit'] else ''}"
        for m in task["measurements"]
    ]
    if lines:
        ET.SubElement(element, "system-out").text = _text("\n".join(lines))
    return element


def _case(task: Row, case: Row) -> ET.Element:
    element = _element(task, case["case_id"], case["duration_us"])
    lines = (case["message"] or "").splitlines()
    _judge(element, case["verdict"], lines[0] if lines else case["verdict"], case["message"] or "")
    return element


def _element(task: Row, name: str, duration_us: int | None) -> ET.Element:
    where = f"{task['label']}.{task['hardware']}"
    return ET.Element(
        "testcase", name=_text(name), classname=_text(where), time=_seconds(duration_us)
    )


def _judge(element: ET.Element, verdict: str, message: str, story: str) -> None:
    if verdict == "passed":
        return
    tag = "failure" if verdict in FAILURES else "error" if verdict in ERRORS else "skipped"
    mark = ET.SubElement(element, tag, message=_text(message)[:1000])
    if tag != "skipped":
        mark.set("type", verdict)
        mark.text = _text(story)
    elif verdict != "skipped":
        mark.set("message", f"{verdict}: {_text(message)[:980]}")


def _story(task: Row) -> str:
    """What a person needs to see first: the message, where it ran, the end of the output."""
    facts = [f"verdict {task['verdict']}, cause {task['cause']}, attempts {task['attempts']}"]
    if task["worker"]:
        facts.append(f"worker {task['worker']}")
    if task["exit_code"] is not None:
        facts.append(f"exit code {task['exit_code']}")
    if task["requested"] and task["requested"] != task["actual"]:
        facts.append(f"asked for {task['requested']}, ran on {task['actual']}")
    parts = [
        task["message"] or "",
        ", ".join(facts),
        (task["output_tail"] or "")[-TAIL_CHARACTERS:],
    ]
    return "\n\n".join(part for part in parts if part)


def _seconds(us: int | None) -> str:
    return f"{(us or 0) / 1e6:.3f}"


def _text(value: object) -> str:
    """Text that XML can hold."""
    return _NOT_XML.sub("\ufffd", str(value))
