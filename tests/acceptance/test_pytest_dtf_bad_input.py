"""Whatever a test does to its process, `pytest --dtf` names it, and the rest goes on."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from acceptance.cli_process import until
from acceptance.pytest_pair import LIMIT_S, Pair
from pytest_suites import bad, passing
from suites.local_pool import local_pool
from suites.outcomes import Outcome
from suites.thousands import many_cases


def names(other: Outcome) -> list[str]:
    """The cases as often as they were reported."""
    return sorted("::".join(case[:2]) for case in other.cases.elements())


@pytest.mark.parametrize("how", bad.DEATHS)
def test_a_case_that_ends_its_interpreter_is_named_and_the_rest_goes_on(
    pair: Pair, how: str
) -> None:
    other = pair.dtf(bad.dying(bad.DEATHS[how]))
    assert other.exit_code == 1, other.out
    assert other.totals == {"failed": 1, "passed": 29}, other.out
    assert "test_dies" in other.out
    told = " ".join(other.tells("test_dies"))
    assert "died" in told or "ended" in told, told
    assert len(names(other)) == len(set(names(other))) == 30


def test_a_segfault_says_where(pair: Pair) -> None:
    other = pair.dtf(bad.dying(bad.DEATHS["segfault"]))
    assert "SIGSEGV" in other.out, other.out


def test_what_passes_when_tried_again_is_told_as_flaky(pair: Pair) -> None:
    other = pair.dtf(bad.DIES_ONCE)
    assert other.exit_code == 0, other.out
    assert other.totals["passed"] == 7
    assert "flaky" in other.out
    assert "test_dies_once" in other.out


def test_a_fixture_that_ends_the_process(pair: Pair) -> None:
    other = pair.dtf(bad.FIXTURE_DIES)
    assert other.exit_code == 1, other.out
    assert other.totals.get("passed", 0) >= 8, other.out
    assert other.totals.get("failed", 0) + other.totals.get("error", 0) == 2, other.out
    assert "test_deadly" in other.out
    assert "test_deadly_later" in other.out


def test_directories_threads_forks_output_and_odd_exceptions_are_endured(pair: Pair) -> None:
    plain, other = pair.same(bad.ENDURED)
    assert plain.number == 24
    assert "half" in other.out


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_binary_output_and_control_characters(pair: Pair, capture: str) -> None:
    files = {name: text for name, text in bad.ENDURED.items() if "output" in name}
    pair.same({"pytest.ini": "[pytest]\n", **files}, f"--capture={capture}")


def test_closing_stdout_costs_no_other_case(pair: Pair) -> None:
    other = pair.dtf(bad.CLOSES_STDOUT)
    assert len(names(other)) == 13, other.out
    assert other.totals.get("passed", 0) >= 11, other.out


def test_closing_every_descriptor_costs_no_other_case(pair: Pair) -> None:
    """What pytest itself keeps open to capture with is gone for the rest of that process."""
    other = pair.dtf(bad.CLOSES_ALL)
    assert (other.exit_code, len(set(names(other)))) == (1, 12), other.out
    assert other.totals["passed"] == 8, other.out
    bare = pair.dtf(bad.CLOSES_ALL, "-s")
    assert (bare.exit_code, bare.totals) == (0, {"passed": 12}), bare.out


def test_a_forked_child_that_goes_on_reports_nothing_twice(pair: Pair) -> None:
    other = pair.dtf(bad.RUNS_TWICE)
    assert other.exit_code == 0, other.out
    assert other.totals == {"passed": 9}
    assert len(set(names(other))) == len(names(other)) == 9


@pytest.mark.parametrize("way", ["option", "marker"])
def test_a_case_that_runs_for_ever_is_cut_with_its_stack(pair: Pair, way: str) -> None:
    files = dict(bad.FOR_EVER)
    options = ["--dtf-timeout=1"] if way == "option" else []
    if way == "marker":
        text = files["test_for_ever.py"].replace(
            "def test_for_ever", "@pytest.mark.dtf(timeout=1)\ndef test_for_ever"
        )
        files["test_for_ever.py"] = "import pytest\n" + text
    other = pair.dtf(files, *options)
    assert other.exit_code == 1, other.out
    assert other.totals == {"failed": 1, "passed": 16}, other.out
    assert "wait_for_what_never_comes" in other.out
    assert re.search("tim(ed|e) ?out|longer than", other.out, re.I)


def test_five_thousand_cases(pair: Pair) -> None:
    plain, other = many_cases(pair.directory, 5000, pair.pool, ("--dtf",))
    assert plain.number == other.number == 5000, other.out[-3000:]
    assert other.cases == plain.cases
    assert (other.exit_code, other.totals) == (plain.exit_code, plain.totals)


def test_a_message_of_two_megabytes_keeps_head_and_tail(pair: Pair) -> None:
    other = pair.dtf(bad.LONG_TEXT)
    assert other.exit_code == 1
    assert other.totals == {"failed": 2, "passed": 2}
    assert "head yyy" in other.out
    assert "head ooo" in other.out
    assert "ooo tail" in other.out
    assert len(other.out) < 8_000_000


def test_a_suite_that_cannot_be_imported_names_what_is_missing(pair: Pair) -> None:
    pair.same(bad.CANNOT_IMPORT, "--continue-on-collection-errors")
    plain, other = pair.plain(bad.CANNOT_IMPORT), pair.dtf(bad.CANNOT_IMPORT)
    assert other.exit_code == plain.exit_code == 2
    assert other.totals["error"] == plain.totals["error"] == 3
    for word in ("no_such_package_at_all", "SyntaxError", "while it is imported"):
        assert word in other.out
    assert "Interrupted: 3 errors during collection" in other.out


@pytest.mark.parametrize("where", ["conftest.py", "sub/conftest.py"])
def test_a_conftest_that_cannot_be_imported(pair: Pair, where: str) -> None:
    files = {"pytest.ini": "[pytest]\n", where: "import no_such_package_at_all\n"}
    files |= {"sub/test_a.py": passing(2), "test_b.py": passing(2)}
    plain, other = pair.plain(files), pair.dtf(files)
    assert other.exit_code == plain.exit_code != 0
    assert "no_such_package_at_all" in other.out


def test_a_collection_that_differs_between_processes_is_told_and_ends(pair: Pair) -> None:
    for split in ("auto", "case"):
        other = pair.dtf(bad.DIFFERS, f"--dtf-split={split}")
        assert other.totals.get("passed", 0) >= 6, other.out
        assert other.exit_code in (0, 1, 2), other.out
        if other.totals.get("passed") != 7:
            assert "differ" in other.out, other.out


@pytest.mark.parametrize(
    ("marker", "word"),
    [
        ("hardwear='cuda'", "hardwear"),
        ("timeout='soon'", "soon"),
        ("memory='4X'", "4X"),
        ("isolation='planet'", "planet"),
        ("retries=-1", "retries"),
    ],
)
def test_a_wrong_marker_is_found_at_collection(pair: Pair, marker: str, word: str) -> None:
    text = f"import pytest\n\n\n@pytest.mark.dtf({marker})\ndef test_a():\n    pass\n"
    files = {"pytest.ini": "[pytest]\n", "test_a.py": text}
    assert pair.plain(files).exit_code == 0
    other = pair.dtf(files)
    assert other.exit_code != 0, other.out
    assert word in other.out
    assert other.totals.get("passed", 0) == 0


def test_a_worker_killed_in_mid_suite_costs_only_its_running_case(tmp_path: Path) -> None:
    gate = (
        "import time\nfrom pathlib import Path\n\nHERE = Path(__file__).parent\n\n\n"
        "def test_waits():\n    (HERE / 'started').touch()\n"
        "    while not (HERE / 'open').exists():\n        time.sleep(0.01)\n\n\n"
    )
    files = {"pytest.ini": "[pytest]\n", "test_gate.py": gate + passing(5)}
    files |= {f"test_{n}.py": passing(20) for n in range(6)}
    with local_pool(tmp_path / "pool") as variables:
        pair = Pair(tmp_path, variables)
        with pair.start(files) as process:
            until((pair.directory / "started").exists, "the gate's test runs")
            victims = _workers(tmp_path / "pool")
            assert len(victims) >= 2, victims
            for victim in victims:
                victim.kill()
            (pair.directory / "open").touch()
            out = process.communicate(timeout=LIMIT_S)[0]
        assert process.returncode == 0, out
        assert "126 passed" in out


def _workers(data_dir: Path) -> list[psutil.Process]:
    """The worker agents of the pool on this data directory: forks of one warm parent."""
    (pool,) = [process for process in psutil.process_iter() if _is_pool(process, data_dir)]
    crews = [child for child in pool.children(recursive=True) if _is_crew(child)]
    return [crew for crew in crews if _is_crew(psutil.Process(crew.ppid()))]


def _is_pool(process: psutil.Process, data_dir: Path) -> bool:
    with suppress(psutil.Error):
        words = " ".join(process.cmdline())
        return "dtf up" in words and process.environ().get("DTF_DATA_DIR") == str(data_dir)
    return False


def _is_crew(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "dtf.worker.crew" in process.cmdline()
    return False


def test_a_case_process_killed_from_outside_is_tried_again(pair: Pair) -> None:
    text = (
        "import os\nimport time\nfrom pathlib import Path\n\nHERE = Path(__file__).parent\n\n\n"
        "def test_waits():\n    if not (HERE / 'pid').exists():\n"
        "        (HERE / 'new').write_text(str(os.getpid()))\n"
        "        (HERE / 'new').rename(HERE / 'pid')\n"
        "        time.sleep(1000)\n\n\n"
    )
    files = {"pytest.ini": "[pytest]\n", "test_gate.py": text + passing(3)}
    with pair.start(files) as process:
        noted = pair.directory / "pid"
        until(noted.exists, "the test runs")
        os.kill(int(noted.read_text()), signal.SIGKILL)
        out = process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 0, out
    assert "4 passed" in out
    assert "flaky" in out
