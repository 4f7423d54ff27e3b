"""What the pool keeps of a pytest run: reports, SQL and suites tell the cases pytest told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance.pytest_pair import Pair
from pytest_suites import bad, everyday
from suites.outcomes import environment, read_junit

SUITE = """
name = "nightly"
[[task]]
name = "cases"
pytest = ["."]
"""


def dtf(pair: Pair, *words: str, status: int = 0) -> str:
    """What a command of the pool says on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "dtf", *words],
        cwd=pair.directory,
        env=environment({**pair.pool, "HOME": str(pair.base), "NO_COLOR": "1"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done
    return done.stdout


@pytest.mark.parametrize("files", [everyday.OUTCOMES, everyday.SUBTESTS, everyday.IDS])
def test_the_pool_s_junit_file_is_pytest_s_own_case_by_case(
    pair: Pair, files: dict[str, str], tmp_path: Path
) -> None:
    plain = pair.plain(files, "-p", "no:cacheprovider")
    pair.dtf(files, "-p", "no:cacheprovider")
    (tmp_path / "ours.xml").write_text(dtf(pair, "report", "junit", "last"))
    ours = read_junit(tmp_path / "ours.xml")
    assert plain.number > 10
    assert ours == plain.cases


def test_a_run_is_shown_by_its_files_and_its_failed_cases(pair: Pair) -> None:
    pair.dtf(everyday.OUTCOMES)
    shown = dtf(pair, "runs", "show", "last")
    assert "test_outcomes.py" in shown
    assert "test_outcomes.py::test_" in shown
    assert "Traceback" not in shown


def test_what_passed_only_when_tried_again_is_a_flake_in_the_tables(pair: Pair) -> None:
    assert pair.dtf(bad.DIES_ONCE).exit_code == 0
    rows = json.loads(dtf(pair, "sql", "SELECT case_id, passed, failed FROM flakes", "--json"))
    assert [row["case_id"] for row in rows["rows"]] != []


def test_a_suite_file_runs_the_same_cases(pair: Pair, tmp_path: Path) -> None:
    plain = pair.plain({**everyday.OUTCOMES, "suite.toml": SUITE})
    dtf(pair, "run", "suite.toml", status=1)
    (tmp_path / "ours.xml").write_text(dtf(pair, "report", "junit", "last"))
    assert read_junit(tmp_path / "ours.xml") == plain.cases
