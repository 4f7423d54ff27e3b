"""`dtf report junit` of a pytest run has the cases pytest's own file would have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from dtf.projections.reports.gather import RunReport
from dtf.projections.reports.junit import junit_xml

from .test_projection_reports import report, task

SUITE = """
import unittest
import pytest

def test_passes(): pass

@pytest.mark.parametrize("x", ["a/b::c", "é", "[x]"])
def test_params(x): assert x

class TestDeep:
    class TestInner:
        def test_fails(self):
            value = 1
            assert value == 2, "no"

@pytest.fixture
def broken(): raise RuntimeError("set-up")

@pytest.fixture
def messy():
    yield
    raise RuntimeError("tear-down")

def test_setup(broken): pass
def test_teardown(messy): pass
def test_both(messy): assert 0
def test_skip(): pytest.skip("why not")

@pytest.mark.skip(reason="marked")
def test_marked(): pass

@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0

@pytest.mark.xfail(strict=True)
def test_strict(): pass

def test_property(record_property): record_property("speed", 3)

class Old(unittest.TestCase):
    def test_old(self): self.assertEqual(1, 2)
    def test_skips(self): self.skipTest("old")
"""
DUMP = """
import json

class Dump:
    def __init__(self, config):
        self.config, self.cases = config, {}

    def pytest_runtest_logreport(self, report):
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.cases.setdefault(report.nodeid, []).append(data)

    def pytest_sessionfinish(self):
        with open("dump.json", "w") as file:
            json.dump(self.cases, file, default=str)

def pytest_configure(config):
    config.pluginmanager.register(Dump(config))
"""


def verdict(reports: list[dict]) -> str:
    outcomes = {each["when"]: each["outcome"] for each in reports}
    if "failed" in (outcomes["setup"], outcomes["teardown"]):
        return "error"
    return outcomes.get("call", outcomes["setup"])


def shape(root: ET.Element) -> list[tuple]:
    """Every test case with what is in it."""
    return [
        (
            case.get("classname"),
            case.get("name"),
            [
                (e.tag, e.get("type"), e.get("message"), e.text)
                for e in case
                if e.tag != "properties"
            ],
            [(e.get("name"), e.get("value")) for e in case.iter("property")],
        )
        for case in root.iter("testcase")
    ]


def test_every_case_is_told_as_pytest_tells_it(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_all.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(DUMP)
    line = [sys.executable, "-m", "pytest", "--junitxml=own.xml", "-q", "-p", "no:cacheprovider"]
    subprocess.run(line, cwd=tmp_path, check=False, capture_output=True)
    dumped = json.loads((tmp_path / "dump.json").read_text())
    cases = [
        {
            "case_id": name,
            "verdict": verdict(reports),
            "duration_us": 5,
            "message": None,
            "tries": 1,
            "detail": json.dumps({"reports": reports}),
        }
        for name, reports in dumped.items()
    ]
    told = report(task(cases=cases))
    told = RunReport(
        run=told.run, groups=[each | {"runner": "pytest"} for each in told.groups], tasks=told.tasks
    )
    ours = shape(ET.fromstring(junit_xml(told)))
    own = shape(ET.parse(tmp_path / "own.xml").getroot())
    assert len(own) > 15
    assert ours == own
