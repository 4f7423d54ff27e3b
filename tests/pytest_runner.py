"""Runs a suite with plain pytest, and with the pool's pytest runner alone in a process of its own.

The runner's package is loaded by path, as a host loads it: it must not need dtf.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent / "worker" / "runners" / "pytest"

HOST = """
import importlib, importlib.util, json, os, sys
order = json.load(open(sys.argv[1]))
spec = importlib.util.spec_from_file_location(
    "dtf_pytest_runner", order["package"] + "/__init__.py",
    submodule_search_locations=[order["package"]])
module = importlib.util.module_from_spec(spec)
sys.modules["dtf_pytest_runner"] = module
spec.loader.exec_module(module)
entry = importlib.import_module("dtf_pytest_runner.entry")

def main():
    state = entry.prepare(order["payload"])
    if "warm" in order:
        entry.warm(state, order["warm"])
    codes = []
    for number, work in enumerate(order["works"]):
        os.environ["DTF_REPORT"] = order["report"] + "." + str(number)
        if order["fork"]:
            pid = os.fork()
            if pid == 0:
                code = entry.run(state, work, {})
                entry.close(state)
                sys.stdout.flush()
                os._exit(code & 255)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:
            code = entry.run(state, work, {})
        codes.append(code)
    entry.close(state)
    json.dump({"codes": codes, "problem": state.problem}, open(order["report"] + ".codes", "w"))

if __name__ == "__main__":
    main()
"""

OUTCOMES = """
import json, os
reports = []
def pytest_runtest_logreport(report):
    longrepr = report.longrepr
    reports.append([report.nodeid, report.when, report.outcome,
        getattr(report, "wasxfail", None),
        longrepr[2] if isinstance(longrepr, tuple) else None,
        report.sections, report.user_properties, type(report).__name__, list(report.location)])
def pytest_collectreport(report):
    if not report.passed:
        reports.append([report.nodeid, "collect", report.outcome, None, None, [], [], "", None])
def pytest_sessionfinish(session):
    json.dump(reports, open(os.environ["OUTCOMES"], "w"), default=str)
"""


def write_suite(folder: Path, files: dict[str, str]) -> Path:
    """The files are there; texts may be indented."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def _environment(folder: Path) -> dict[str, str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("DTF_", "PYTEST_"))}
    return keep | {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DEBUG_TEMPROOT": str(folder)}


def plain(suite: Path, args: list[str], work: Path) -> tuple[dict[str, Any], int]:
    """What plain pytest says: id -> the facts of `facts_of`, and the exit code."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "outcomes_plugin.py").write_text(OUTCOMES)
    env = _environment(work) | {"OUTCOMES": str(work / "outcomes"), "PYTHONPATH": str(work)}
    words = [sys.executable, "-m", "pytest", "-p", "outcomes_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run([*words, *args], cwd=suite, env=env, capture_output=True, timeout=120)
    assert (work / "outcomes").exists(), done.stdout.decode() + done.stderr.decode()
    reports = json.loads((work / "outcomes").read_text())
    cases: dict[str, list[Any]] = {}
    for report in reports:
        cases.setdefault(report[0], []).append(report[1:])
    return {name: facts_of(found) for name, found in cases.items()}, done.returncode


def facts_of(reports: list[Any]) -> dict[str, Any]:
    """Verdict, reason, output, properties of one case, from its reports in order."""
    verdict, reason = "passed", ""
    for when, outcome, xfail, skip, *_rest in reports:
        subtest = _rest[2] == "SubtestReport"
        if outcome == "failed":
            verdict = "failed" if when == "call" or verdict == "failed" else "error"
        elif outcome == "skipped" and verdict == "passed" and not subtest:
            verdict = "skipped"
            reason = f"xfail {xfail}" if xfail is not None else skip
    last = reports[-1]
    return {
        "verdict": verdict,
        "reason": reason,
        "sections": [list(map(str, part)) for part in last[4]],
        "properties": [[str(k), str(v)] for k, v in last[5]],
        "count": len(reports),
        "location": last[7],
    }


class Result:
    """What the runner reported: lines in order, cases by id."""

    def __init__(self, lines: list[dict[str, Any]], codes: list[int], output: str) -> None:
        self.lines = lines
        self.codes = codes
        self.output = output
        self.cases = {line["case"]["id"]: line["case"] for line in lines if "case" in line}
        self.ends = [line["end"] for line in lines if "end" in line]
        self.collected = [line["collected"] for line in lines if "collected" in line]

    def verdicts(self) -> dict[str, str]:
        return {name: case["verdict"] for name, case in self.cases.items()}


def pooled(
    suite: Path,
    works: list[dict[str, Any]],
    folder: Path,
    *,
    args: list[str] | None = None,
    fork: bool = False,
    payload: dict[str, Any] | None = None,
    timeout: float = 120,
) -> Result:
    """The works run one after the other in one process (`fork`: each in a clone of it)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "host.py").write_text(HOST)
    order = {
        "package": str(PACKAGE),
        "report": str(folder / "report"),
        "payload": {"args": args or [], "directory": str(suite), "sys_path": [str(suite)]}
        | (payload or {}),
        "works": works,
        "fork": fork,
    }
    (folder / "order.json").write_text(json.dumps(order))
    done = subprocess.run(
        [sys.executable, "-P", str(folder / "host.py"), str(folder / "order.json")],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
    )
    lines = []
    for number in range(len(works)):
        path = folder / f"report.{number}"
        if path.exists():
            data = path.read_bytes()
            assert max(map(len, data.split(b"\n"))) <= 900 * 1024
            lines += [json.loads(line) for line in data.decode("utf-8").splitlines()]
    codes = [done.returncode]
    if (folder / "report.codes").exists():
        codes = json.loads((folder / "report.codes").read_text())["codes"]
    return Result(lines, codes, done.stdout.decode("utf-8", "replace"))


def files_work(suite: Path, pattern: str = "test_*.py", **more: Any) -> dict[str, Any]:
    """One shard of all files that match."""
    paths = sorted(str(p.relative_to(suite)) for p in suite.rglob(pattern))
    return {"files": [{"path": path} for path in paths], **more}


def runner_facts(case: dict[str, Any]) -> dict[str, Any]:
    """The same facts as `facts_of`, from a case line."""
    detail = case["detail"]
    if "collect" in detail:
        verdict = {"skipped": "skipped", "error": "error"}[case["verdict"]]
        return {"verdict": verdict}
    reports = []
    for r in detail.get("reports", []):
        skip = r["longrepr"][2] if isinstance(r["longrepr"], list) else None
        kind = {"SubTestReport": "SubtestReport"}.get(r.get("_report_type"), "TestReport")
        reports.append(
            [
                r["when"],
                r["outcome"],
                r.get("wasxfail"),
                skip,
                r["sections"],
                r["user_properties"],
                kind,
                r["location"],
            ]
        )
    name = case["id"]
    if not reports:
        times = [time for time in detail["t"] if time is not None]
        path, _, rest = name.partition("::")
        where = [detail.get("file", path), detail.get("line")]
        where.append(detail.get("domain", rest.replace("::", ".")))
        reports = [["call", "passed", None, None, [], [], "TestReport", where] for _ in times]
    facts = facts_of(reports)
    facts["verdict"] = case["verdict"]
    return facts


def same_as_plain(suite: Path, result: Result, expected: dict[str, Any]) -> None:
    """Every case that plain pytest reported has the same facts, and there are no others."""
    assert sorted(result.cases) == sorted(expected)
    for name, case in result.cases.items():
        facts = runner_facts(case)
        assert facts == {key: expected[name][key] for key in facts}, name
