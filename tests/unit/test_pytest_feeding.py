"""pytest's hooks are fed with a recording: what pytest then prints, writes and exits with is what
the recorded run said. No pool: `recording_plugin` and `replaying_plugin` stand for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import pytest

TESTS = Path(__file__).parent.parent
OUTCOMES = """
import warnings
import pytest

def test_ok(): pass
@pytest.mark.parametrize("x", [1, "é::b", "a b"])
def test_p(x): print("hello", x)
def test_fail():
    print("captured")
    assert [1, 2] == [1, 3]
@pytest.mark.skip(reason="why not")
def test_skip(): pass
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.xfail(strict=True)
def test_strict(): pass
@pytest.mark.xfail
def test_xpass(): pass
@pytest.fixture
def broken(): raise RuntimeError("set-up broke")
def test_setup(broken): pass
@pytest.fixture
def later():
    yield
    raise RuntimeError("tear-down broke")
def test_teardown(later): pass
def test_warn(): warnings.warn("old thing", DeprecationWarning)
class TestC:
    class TestInner:
        def test_n(self): assert 1 == 2, "inner"
def test_sub(subtests):
    for i in range(3):
        with subtests.test(msg="m", i=i):
            assert i != 1
"""
SKIPPED = "import pytest\npytest.skip('gone', allow_module_level=True)"
SUITE = {"test_a.py": OUTCOMES, "test_b.py": "def test_one(): pass", "test_c.py": SKIPPED}


class Ran(NamedTuple):
    code: int
    out: str
    cases: dict[tuple[str, str], list[tuple[str, str]]]


class Suite:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recording = directory / "recording.jsonl"
        self.write({"suite/pytest.ini": "[pytest]"})

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            file = self.directory / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)

    def run(self, *options: str) -> Ran:
        xml = self.directory / "out.xml"
        env = {**os.environ, "PYTHONPATH": str(TESTS), "RECORDING": str(self.recording)}
        env |= {"REPLAYING": str(self.recording), "DTF_DATA_DIR": str(self.directory / "data")}
        env.pop("PYTEST_ADDOPTS", None)
        words = ["-p", "no:cacheprovider", "-p", "no:asyncio", f"--junitxml={xml}", *options]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "suite", *words],
            cwd=self.directory, env=env, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout + done.stderr, read(xml))

    def record(self, *options: str) -> Ran:
        """Plain pytest, recorded."""
        return self.run("-p", "recording_plugin", *options)

    def replay(self, *options: str) -> Ran:
        """`pytest --dtf`, fed with the recording."""
        words = [] if "dtf" in installed_plugins() else ["-p", "dtf.pytest_plugin"]
        return self.run(*words, "-p", "replaying_plugin", "--dtf", *options)

    def say(self, *lines: dict[str, Any]) -> None:
        """The recording is these lines."""
        self.recording.write_text("".join(json.dumps(line) + "\n" for line in lines))


def installed_plugins() -> set[str]:
    from importlib.metadata import entry_points

    return {each.name for each in entry_points(group="pytest11")}


def read(xml: Path) -> dict[tuple[str, str], list[tuple[str, str]]]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    if not xml.exists():
        return found
    for case in ET.parse(xml).getroot().iter("testcase"):
        told = [(each.tag, each.get("message") or "") for each in case]
        found.setdefault((case.get("classname", ""), case.get("name", "")), []).extend(told)
    return found


def summary(out: str) -> list[str]:
    """The output from its first section on, without times and addresses."""
    text = re.sub(r"0x[0-9a-f]+|in [0-9.]+s|=+|_+", "", out)
    lines = text.splitlines()
    begin = next((n for n, line in enumerate(lines) if line.strip() in ("ERRORS", "FAILURES")), 0)
    return lines[begin:]


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_summary_junit_and_exit_code_are_those_of_the_recorded_run(suite: Suite) -> None:
    suite.write({f"suite/{name}": text for name, text in SUITE.items()})
    plain, fed = suite.record("-rA"), suite.replay("-rA")
    assert fed.code == plain.code == 1
    assert fed.cases == plain.cases
    assert summary(fed.out) == summary(plain.out)


def test_a_file_that_cannot_be_collected_leaves_no_result(suite: Suite) -> None:
    suite.write({"suite/test_a.py": "import nosuch", "suite/test_b.py": "def test_b(): pass"})
    plain = suite.record("--continue-on-collection-errors")
    assert plain.code == 1
    fed = suite.replay()
    assert fed.code == 2
    assert "Interrupted: 1 error during collection" in fed.out
    assert "1 passed" not in fed.out
    assert all(told and told[0][0] == "error" for told in fed.cases.values())
    again = suite.replay("--continue-on-collection-errors")
    assert (again.code, again.cases) == (plain.code, plain.cases)


def test_the_run_is_cancelled_after_enough_failures(suite: Suite) -> None:
    suite.write({"suite/test_a.py": "def test_a(): assert 0\ndef test_b(): assert 0"})
    suite.record()
    fed = suite.replay("-x")
    assert fed.code == 1
    assert "cancelled: enough tests failed" in fed.out
    assert "stopping after 1 failures" in fed.out
    assert "1 failed in" in fed.out


def test_cases_without_a_result_are_errors_that_say_why(suite: Suite) -> None:
    suite.write({"suite/test_a.py": "", "suite/test_b.py": ""})
    suite.say(
        {"lost": {"file": "test_a.py", "ids": ["test_a.py::test_x"], "message": "w1 was lost"}},
        {"lost": {"file": "test_b.py", "ids": [], "message": "no worker has cuda"}},
    )
    fed = suite.replay()
    assert fed.code == 1
    assert "2 errors" in fed.out
    assert "w1 was lost" in fed.out
    assert "NOT RUN test_b.py: no worker has cuda" in fed.out


def test_what_only_the_pool_knows_is_told_at_the_end(suite: Suite) -> None:
    suite.write({"suite/test_a.py": ""})
    seen = {"file": "test_a.py", "selected": 1, "deselected": 0}
    missing = {"collect": None}
    suite.say(
        {"collected": seen | {"digest": "1", "ids": ["test_a.py::x"], "worker": "w1"}},
        {"collected": seen | {"digest": "2", "ids": ["test_a.py::y"], "worker": "w2"}},
        {"case": {"id": "test_a.py::x", "verdict": "passed", "tries": 2, "message": "died once"}},
        {
            "case": {
                "id": "test_a.py::y",
                "verdict": "failed",
                "message": "ModuleNotFoundError: No module named 'torch.nn'",
                "detail": missing | {"crash": "SIGSEGV", "tail": "last words"},
            }
        },
    )
    fed = suite.replay()
    assert fed.code == 1
    assert "FLAKY test_a.py::x - passed at try 2 on w1: died once" in fed.out
    assert "ENDED test_a.py::y - failed on w1" in fed.out
    assert "last words" in fed.out
    assert "MISSING module 'torch' on w1" in fed.out
    assert "DIFFERENT cases of test_a.py on w1 and w2" in fed.out
    assert "only on w2: test_a.py::y" in fed.out


def test_the_client_imports_neither_tests_nor_conftests_it_does_not_need(suite: Suite) -> None:
    suite.write(
        {
            "suite/conftest.py": "raise SystemExit('imported')\nimport pytest",
            "suite/test_a.py": "raise SystemExit('imported')",
            "suite/sub_test.py": "raise SystemExit('imported')",
        }
    )
    suite.say({"case": {"id": "test_a.py::x", "verdict": "passed"}})
    fed = suite.replay()
    assert fed.code == 0, fed.out
    assert "imported" not in fed.out


def test_nothing_to_run_is_exit_code_5(suite: Suite) -> None:
    suite.say()
    assert suite.replay().code == 5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-n", "2"], "--dtf-workers"),
        (["--pdb"], "leave out --dtf"),
        (["--dtf-split=halves"], "halves"),
        (["--dtf-isolation=box"], "box"),
        (["--dtf-workers=0"], "1 to 1024"),
        (["--dtf-timeout=-1"], "-1"),
        (["--dtf-hardware=gpu"], "cuda"),
        (["--dtf-env=A-B"], "A-B"),
        (["suite/nothing.py"], "nothing.py"),
    ],
)
def test_what_cannot_work_is_refused_with_the_word_to_use(
    suite: Suite, options: list[str], told: str
) -> None:
    suite.write({"suite/test_a.py": ""})
    suite.say()
    fed = suite.replay(*options)
    assert fed.code == 4, fed.out
    assert told in fed.out
