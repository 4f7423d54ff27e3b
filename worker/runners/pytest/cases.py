"""The reports of a case become one line. Rule: a case that simply passed costs one formatted
string; anything else carries pytest's own serialised reports.
"""

from __future__ import annotations

import json.encoder
from typing import Any

from _pytest.reports import TestReport

from .wire import MESSAGE_CHARS_MAX, encode, first_line

_PLAIN_ATTRIBUTES = len(TestReport("x", ("x", 0, "x"), {}, "passed", None, "call").__dict__)
_quoted = json.encoder.encode_basestring


class CaseKey:
    """What is known of a case before it runs; `quoted` is its id as JSON."""

    __slots__ = ("id", "item", "quoted", "where")

    def __init__(self, item: Any, wired: str) -> None:
        self.item = item
        self.id = wired
        self.quoted = _quoted(wired)
        self.where: str | None = None

    def begin(self) -> bytes:
        return b'{"begin":' + self.quoted.encode() + b"}\n"


def place_of(nodeid: str, location: Any) -> dict[str, Any]:
    """The keys of a detail that tell the location, as far as the id does not."""
    file, line, domain = location
    place: dict[str, Any] = {} if line is None else {"line": line}
    path, _, rest = nodeid.partition("::")
    if domain != rest.replace("::", "."):
        place["domain"] = domain
    if file != path:
        place["file"] = file
    return place


def is_plain(report: Any) -> bool:
    return (
        report.outcome == "passed"
        and type(report) is TestReport
        and not report.sections
        and not report.user_properties
        and report.longrepr is None
        and len(report.__dict__) == _PLAIN_ATTRIBUTES
    )


def case_line(
    config: Any,
    key: CaseKey,
    reports: list[Any],
    warnings: list[dict[str, Any]],
    tries: int = 1,
    earlier: list[dict[str, Any]] | None = None,
) -> tuple[bytes, str]:
    """The line of a case that has run, and its verdict."""
    plain = all(map(is_plain, reports))
    if plain and len(reports) == 3 and not warnings and tries == 1:
        setup, call, teardown = reports
        if call.when == "call":
            return _passed(key, setup, call, teardown), "passed"
    again = [n for n, report in enumerate(reports) if report.outcome == "rerun"]
    final = reports[again[-1] + 1 :] if again else reports
    verdict, message = judge(final)
    times, total = phase_times(final)
    detail: dict[str, Any] = {"t": times}
    location = reports[0].location if reports else key.item.location
    detail |= place_of(key.item.nodeid, location)
    if not plain or not reports:
        detail["reports"] = [serialise(config, report) for report in reports]
    if warnings:
        detail["warnings"] = warnings
    if earlier:
        detail["earlier"] = earlier
    case: dict[str, Any] = {"id": key.id, "verdict": verdict, "duration_us": total}
    if message:
        case["message"] = message
    if tries + len(again) > 1:
        case["tries"] = tries + len(again)
    case["detail"] = detail
    return encode({"case": case}), verdict


def _passed(key: CaseKey, setup: Any, call: Any, teardown: Any) -> bytes:
    if key.where is None:
        place = place_of(key.item.nodeid, call.location)
        key.where = "".join(f',"{name}":{_json(value)}' for name, value in place.items())
    a, b, c = (int(report.duration * 1e6) for report in (setup, call, teardown))
    text = (
        f'{{"case":{{"id":{key.quoted},"verdict":"passed","duration_us":{a + b + c},'
        f'"detail":{{"t":[{a},{b},{c}]{key.where}}}}}}}\n'
    )
    return text.encode()


def _json(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return _quoted(value.encode("utf-8", "backslashreplace").decode())


def phase_times(reports: list[Any]) -> tuple[list[int | None], int]:
    """Microseconds of setup, call and teardown (None: did not run), and their sum."""
    times: list[int | None] = [None, None, None]
    for report in reports:
        if type(report).__name__ == "SubtestReport" or report.when not in _PHASES:
            continue  # its time is part of its case's
        times[_PHASES[report.when]] = int(report.duration * 1e6)
    return times, sum(time or 0 for time in times)


_PHASES = {"setup": 0, "call": 1, "teardown": 2}


def judge(reports: list[Any]) -> tuple[str, str]:
    """The verdict of a case, and one line why."""
    for when, verdict in (("call", "failed"), ("setup", "error"), ("teardown", "error")):
        for report in reports:
            if report.when == when and report.outcome == "failed":
                return verdict, why(report)
    for report in reports:
        # A skipped subtest does not skip its case.
        if report.outcome == "skipped" and type(report).__name__ != "SubtestReport":
            return "skipped", why(report)
    if not reports:
        return "skipped", "no report: a plugin took the case over and told nothing"
    return "passed", ""


def why(report: Any) -> str:
    """First line of the crash or the reason of the skip, at most 1 KiB of characters."""
    try:
        longrepr = report.longrepr
        if report.outcome == "skipped":
            if hasattr(report, "wasxfail"):
                return f"xfail: {report.wasxfail}".removesuffix(": ")[:MESSAGE_CHARS_MAX]
            if isinstance(longrepr, tuple):
                return first_line(str(longrepr[2]).removeprefix("Skipped: "))
        crash = getattr(longrepr, "reprcrash", None)
        return first_line(crash.message if crash is not None else str(longrepr or ""))
    except Exception as error:  # longrepr may be anybody's object
        return f"(its report cannot be read: {type(error).__name__})"


def serialise(config: Any, report: Any) -> dict[str, Any]:
    """What pytest sends for this report; a report that pytest cannot send arrives as text."""
    try:
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        if isinstance(data, dict):
            return data
        problem = f"no plugin can serialise a {type(report).__name__}"
    except Exception as error:  # boundary: attributes that plugins and tests put into a report
        problem = f"its report cannot be serialised: {type(error).__name__}: {error}"
    return {
        "$report_type": "TestReport",
        "nodeid": report.nodeid,
        "location": report.location,
        "keywords": {},
        "outcome": report.outcome,
        "when": report.when,
        "longrepr": f"{why(report)}\n({problem})" if report.outcome != "passed" else None,
        "sections": [],
        "user_properties": [],
        "duration": getattr(report, "duration", 0),
    }


def collect_line(
    config: Any, file: str, report: Any, warnings: list[dict[str, Any]]
) -> tuple[bytes, str]:
    """The line of a file that could not be collected, or that skipped itself."""
    verdict = "skipped" if report.outcome == "skipped" else "error"
    detail: dict[str, Any] = {"collect": serialise(config, report)}
    if warnings:
        detail["warnings"] = warnings
    case = {"id": file, "verdict": verdict, "message": collect_reason(report), "detail": detail}
    return encode({"case": case}), verdict


def collect_reason(report: Any) -> str:
    if report.outcome == "skipped":
        return why(report)
    text = str(report.longrepr or "")
    errors = [line for line in text.split("\n") if line.startswith("E  ")]
    return first_line(errors[-1][1:] if errors else text)
