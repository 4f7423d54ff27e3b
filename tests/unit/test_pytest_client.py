"""The client side of `pytest --dtf` without a pool: what it decides on its own."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from dtf.core import events as e
from dtf.core.ids import attempt_token
from dtf.core.model import Case, Cause, Verdict
from dtf.core.shards import Planner
from dtf.tui.pytest.code_state import code_state
from dtf.tui.pytest.conftests import must_import
from dtf.tui.pytest.follower import Follower
from dtf.tui.pytest.live import LiveLines
from dtf.tui.pytest.options import demand_possible, options_of, shell_variables
from dtf.tui.pytest.seen import CaseSeen, FileLost, FileSeen, OutputSeen
from dtf.tui.pytest.turns import PATIENCE_S, Turns
from msgspec import Raw


# -- conftests -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "import numpy\nimport pytest\n@pytest.fixture\ndef model(): return 1",
        "def pytest_collection_modifyitems(items): items.sort()",
        "def pytest_configure(config):\n    config.addinivalue_line('markers', 'slow: x')",
        "def pytest_configure(config):\n    'Doc.'\n    pass",
        "from unittest import mock\nclass pytest_thing: pass",
        "import os\nif os.name == 'nt':\n    def pytest_runtest_setup(item): pass",
    ],
)
def test_a_conftest_of_fixtures_and_worker_hooks_is_spared(tmp_path: Path, text: str) -> None:
    file = tmp_path / "conftest.py"
    file.write_text(text)
    assert not must_import(file)


@pytest.mark.parametrize(
    "text",
    [
        "def pytest_addoption(parser): pass",
        "def pytest_configure(config):\n    config.x = 1",
        "pytest_plugins = ['a']",
        "collect_ignore = ['x.py']",
        "collect_ignore_glob: list[str] = ['x*']",
        "from hooks import *",
        "from hooks import pytest_terminal_summary",
        "import hooks as pytest_sessionfinish",
        "try:\n    import x\nexcept ImportError:\n    collect_ignore = ['t.py']",
        "if True:\n    def pytest_report_header(config): return 'x'",
        "def f(): pass\npytest_sessionstart = f",
        "globals()['pytest_' + 'configure'] = print",
        "exec('pytest_plugins = []')",
        "this is no python",
        "def pytest_collect_file(file_path, parent): pass",
        "def pytest_ignore_collect(collection_path): return False",
    ],
)
def test_a_conftest_that_the_reporting_process_needs_is_imported(tmp_path: Path, text: str) -> None:
    file = tmp_path / "conftest.py"
    file.write_text(text)
    assert must_import(file)


# -- options ---------------------------------------------------------------------------------------
def actions() -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-k", dest="keyword")
    parser.add_argument("-x", dest="maxfail", action="store_const", const=1)
    parser.add_argument("-v", dest="verbose", action="count")
    parser.add_argument("-s", dest="capture", action="store_const", const="no")
    parser.add_argument("--tb", dest="tbstyle")
    parser.add_argument("--opt", dest="opt", nargs="?")
    parser.add_argument("--many", dest="many", nargs="*")
    return parser._option_string_actions


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["a.py", "-k", "one or two", "b"], [("keyword", ["-k", "one or two"])]),
        (["-kone", "a.py::x[-k]"], [("keyword", ["-kone"])]),
        (["-xvs"], [("maxfail", ["-x"]), ("verbose", ["-v"]), ("capture", ["-s"])]),
        (["-vkone"], [("verbose", ["-v"]), ("keyword", ["-kone"])]),
        (["-vk", "one", "a"], [("verbose", ["-v"]), ("keyword", ["-k", "one"])]),
        (["--tb=short", "--tb", "l"], [("tbstyle", ["--tb=short"]), ("tbstyle", ["--tb", "l"])]),
        (["--opt", "-v"], [("opt", ["--opt"]), ("verbose", ["-v"])]),
        (["--many", "a", "b", "-v"], [("many", ["--many", "a", "b"]), ("verbose", ["-v"])]),
        (["--unknown=1", "--", "-v"], [("", ["--unknown=1"])]),
    ],
)  # fmt: skip
def test_options_are_told_from_positions_as_argparse_does(
    tokens: list[str], expected: list[tuple[str, list[str]]]
) -> None:
    assert list(options_of(tokens, actions())) == expected


@pytest.mark.parametrize("token", ["-n", "-n4", "--numprocesses=2", "--dist", "--dist=load"])
def test_words_of_xdist_are_refused_with_what_to_use(token: str) -> None:
    with pytest.raises(pytest.UsageError, match="--dtf-workers"):
        demand_possible(argparse.Namespace(), [token])


@pytest.mark.parametrize(
    ("name", "word"), [("usepdb", "--pdb"), ("trace", "--trace"), ("stepwise", "--lf")]
)
def test_what_needs_this_process_is_refused(name: str, word: str) -> None:
    with pytest.raises(pytest.UsageError, match=word):
        demand_possible(argparse.Namespace(**{name: True}), [])


def test_python_m_pytest_imports_from_here_on_workers_too() -> None:
    assert shell_variables({"PYTHONPATH": "/a", "X": "1"}, ["/h"], "/h") == {"PYTHONPATH": "/h:/a"}
    assert shell_variables({"PATH": "/bin"}, ["/venv/bin"], "/h") == {"PATH": "/bin"}


def test_a_changed_file_changes_the_state_of_the_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / ".git").mkdir()
    before = code_state([tmp_path])
    (tmp_path / ".git" / "b.py").write_text("")
    (tmp_path / "data.bin").write_text("")
    assert code_state([tmp_path]) == before
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert code_state([tmp_path]) == before
    (tmp_path / "a.py").write_text("x = 10")
    assert code_state([tmp_path]) != before


# -- turns -----------------------------------------------------------------------------------------
def test_one_file_at_a_time_and_the_rest_in_order() -> None:
    turns: Turns[str] = Turns(["a", "b", "c"])
    turns.add("b", "b1")
    assert list(turns.take(0)) == ["b1"]
    turns.add("a", "a1")
    turns.add("b", "b2")
    assert list(turns.take(0.1)) == ["b2"]
    turns.close("b")
    assert list(turns.take(0.2)) == ["a1"]


def test_complete_files_go_before_open_ones() -> None:
    turns: Turns[str] = Turns(["a", "b", "c"])
    for each in "abc":
        turns.add(each, each)
    turns.close("c")
    assert list(turns.take(0)) == ["c", "a"]
    turns.close_all()
    assert list(turns.take(0)) == ["b"]


def test_a_file_that_stands_still_does_not_hold_up_complete_ones() -> None:
    turns: Turns[str] = Turns(["a", "b"])
    turns.add("a", "a1")
    assert list(turns.take(0)) == ["a1"]
    turns.add("b", "b1")
    turns.close("b")
    assert list(turns.take(PATIENCE_S / 2)) == []
    assert list(turns.take(PATIENCE_S * 2)) == ["b1"]
    turns.add("a", "a2")
    assert list(turns.take(PATIENCE_S * 3)) == ["a2"]


# -- live output -----------------------------------------------------------------------------------
class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def test_live_output_comes_in_whole_lines_with_its_worker() -> None:
    terminal = Lines()
    live = LiveLines(terminal)
    live.add(OutputSeen("s0-0", "w1", "one\ntw", False))
    live.add(OutputSeen("s0-1", "w2", "other\n", False))
    live.flush()
    live.add(OutputSeen("s0-0", "w1", "o\nend", True))
    live.flush()
    assert terminal.lines == ["[w1] one", "[w2] other", "[w1] two", "[w1] end"]


# -- the log ---------------------------------------------------------------------------------------
class World:
    """A planner of one file and what the follower told."""

    def __init__(self, files: list[str]) -> None:
        self.told: list[object] = []
        self.planner = Planner(files, slots=1)
        self.follower = Follower(self.planner, files, self.told.append)
        self.shards = self.planner.start()
        for number, shard in enumerate(self.shards):
            self.follower.bind(shard, f"s0-{number}")

    def attempt(self, worker: str, task: str, *cases: Case, number: int = 1) -> str:
        token = attempt_token(task, number, 1, "n")
        report = e.CasesReported(token=token, n=0, cases=list(cases))
        self.follower.on_attempt(worker, report)
        return token

    def settle(self, task: str, token: str | None, value: bytes = b"", **fields: object) -> None:
        if token is not None:
            self.follower.on_attempt(
                "w1",
                e.AttemptFinished(
                    token=token, n=1, verdict=Verdict.PASSED, duration_us=1, value=Raw(value)
                ),
            )
        given: dict[str, object] = {"verdict": Verdict.PASSED, **fields}
        self.follower.on_ruling(e.TaskSettled(term=1, task=task, token=token, **given))  # type: ignore[arg-type]


def passed(name: str) -> Case:
    return Case(id=name, verdict=Verdict.PASSED, duration_us=5)


def test_a_case_is_told_once_and_again_only_when_it_is_worse() -> None:
    world = World(["a.py"])
    world.attempt("w1", "s0-0", passed("a.py::x"))
    world.attempt("w2", "s0-0", passed("a.py::x"), number=2)
    world.attempt("w2", "s0-0", Case(id="a.py::x", verdict=Verdict.FAILED), number=3)
    told = [(each.worker, each.verdict) for each in world.told if isinstance(each, CaseSeen)]
    assert told == [("w1", "passed"), ("w2", "failed")]


def test_an_end_that_is_heard_before_the_submission_is_acknowledged_counts() -> None:
    told: list[object] = []
    planner = Planner(["a.py"], slots=1)
    follower = Follower(planner, ["a.py"], told.append)
    (shard,) = planner.start()
    token = attempt_token("s0-0", 1, 1, "n")
    finish = e.AttemptFinished(
        token=token, n=1, verdict=Verdict.PASSED, duration_us=1, value=Raw(b'{"rest":[]}')
    )
    follower.on_attempt("w1", finish)
    settled = e.TaskSettled(term=1, task="s0-0", verdict=Verdict.PASSED, token=token)
    follower.on_ruling(settled)
    assert not planner.done
    follower.bind(shard, "s0-0")
    assert planner.done
    assert follower.settled == 1


def test_a_process_with_open_fixtures_is_remembered_until_it_says_otherwise() -> None:
    world = World(["a.py"])
    token = world.attempt("w1", "s0-0", passed("a.py::x"))
    world.settle("s0-0", token, b'{"rest":[],"host":"h","open":true,"missing":["a.py::y"]}')
    assert world.follower.hosts == {("h", "w1")}
    assert list(world.follower.missing) == ["a.py::y"]


def test_a_run_that_no_worker_can_serve_ends_with_its_reason_for_every_file() -> None:
    world = World(["a.py", "b.py"])
    for number in range(len(world.shards)):
        world.settle(f"s0-{number}", None, verdict=Verdict.NO_CAPACITY, cause=Cause.NO_CAPACITY)
    assert world.follower.hopeless
    assert not world.follower.fresh
    lost = world.follower.lost_cases()
    assert sorted(each.file for each in lost) == ["a.py", "b.py"]
    assert all(isinstance(each, FileLost) and "no_capacity" in each.message for each in lost)


def test_what_a_lost_worker_had_is_dealt_again() -> None:
    world = World(["a.py"])
    world.attempt("w1", "s0-0", passed("a.py::x"))
    world.settle("s0-0", None, verdict=Verdict.ERROR, cause=Cause.WORKER_LOST)
    (again,) = world.follower.fresh
    assert again.params["files"][0]["not"] == ["a.py::x"]


def test_collected_files_are_told_with_their_worker() -> None:
    world = World(["a.py"])
    token = attempt_token("s0-0", 1, 1, "n")
    for n, case in enumerate(("a.py::x", "a.py::y")):
        part = e.CasesCollected(token=token, n=n, file="a.py", selected=2, ids=[case])
        world.follower.on_attempt("w1", part)
    assert world.told == [FileSeen("a.py", 2, 0, "", ("a.py::x", "a.py::y"), "w1")]


def test_a_collected_case_that_nobody_reports_is_told_as_lost() -> None:
    world = World(["a.py"])
    token = attempt_token("s0-0", 1, 1, "n")
    ids = ["a.py::x", "a.py::y"]
    collected = e.CasesCollected(token=token, n=0, file="a.py", selected=2, ids=ids)
    world.follower.on_attempt("w1", collected)
    world.attempt("w1", "s0-0", passed("a.py::x"))
    world.settle("s0-0", token, b'{"rest":[]}')
    assert world.planner.done
    assert [(each.file, each.ids) for each in world.follower.lost_cases()] == [
        ("a.py", ("a.py::y",))
    ]
