"""Suites with `pytest = [...]`: one task for each test file, and nothing a file does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from dtf.core.errors import InvalidSuite
from dtf.core.model import TaskSpec
from dtf.core.pytest_files import find_test_files
from dtf.core.submit import GroupPlan
from dtf.core.suite import demand_shipped, expand, load_suite

from .test_suite import HEAD, params_of


def tree(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("def test_a(): pass\n")
    return root


def plan_of(root: Path, text: str) -> GroupPlan:
    (root / "suite.toml").write_text(text)
    (plan,) = expand(load_suite(root / "suite.toml"))
    return plan


def test_each_file_is_a_task_of_the_runner_pytest(tmp_path: Path) -> None:
    tree(tmp_path, "tests/test_b.py", "tests/test_a.py", "tests/deep/a_test.py", "tests/helper.py")
    tree(tmp_path, "tests/.hidden/test_no.py", "node_modules/test_no.py")
    plan = plan_of(tmp_path, HEAD + "pytest = ['tests', '-k', 'a', '--strict-markers']\n")
    assert [each["files"][0]["path"] for each in params_of(plan)] == [
        "tests/test_a.py",
        "tests/test_b.py",
        "tests/deep/a_test.py",
    ]
    assert plan.spec == TaskSpec(
        runner="pytest",
        args=["-k", "a", "--strict-markers"],
        isolation="none",
        history="suite",
    )


def test_a_node_id_runs_that_case_only(tmp_path: Path) -> None:
    tree(tmp_path, "test_a.py")
    plan = plan_of(tmp_path, HEAD + "pytest = 'test_a.py::test_a'\nisolation = 'case'\n")
    assert params_of(plan) == [{"files": [{"path": "test_a.py", "ids": ["test_a.py::test_a"]}]}]
    assert plan.spec.isolation == "case"


def test_the_settings_of_the_project_say_what_a_test_file_is(tmp_path: Path) -> None:
    tree(tmp_path, "checks/check_a.py", "checks/test_a.py", "other/check_b.py")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\npython_files = ['check_*.py']\ntestpaths = ['checks']\n"
    )
    assert list(find_test_files(tmp_path, ["-x"]).files) == ["checks/check_a.py"]
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = test_*.py\n")
    assert list(find_test_files(tmp_path, []).files) == ["checks/test_a.py"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pytest = ['nope.py']", ["nope.py", "no file"]),
        ("pytest = []", ["no test file"]),
        ("pytest = [1]", ["list of texts"]),
        ("pytest = ['test_a.py']\ncount = 2", ["count", "one task a file"]),
        ("pytest = ['test_a.py']\ncommand = 'true'", ["`command` and `pytest`"]),
        ("pytest = ['test_a.py']\nisolation = 'shard'", ["isolation", "'shard'", "file"]),
        ("python = 'm:f'\nisolation = 'case'", ["isolation", "'case'"]),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, text: str, words: list[str]) -> None:
    if "test_a" in text:
        tree(tmp_path, "test_a.py")
    with pytest.raises(InvalidSuite) as caught:
        plan_of(tmp_path, HEAD + text + "\n")
    told = f"{caught.value} {caught.value.remedy}"
    assert all(word in told for word in words), told


def test_a_test_file_that_is_not_shipped_is_told(tmp_path: Path) -> None:
    tree(tmp_path, "test_a.py")
    plan_of(tmp_path, HEAD + "pytest = ['test_a.py']\n")
    suite = load_suite(tmp_path / "suite.toml")
    with pytest.raises(InvalidSuite, match="not shipped"):
        demand_shipped(suite, ["suite.toml"])
