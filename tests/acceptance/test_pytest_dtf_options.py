"""`pytest --dtf` obeys pytest's own options, as far as they mean anything on many processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import psutil
import pytest
from acceptance.cli_process import until
from acceptance.pytest_pair import LIMIT_S, Pair, interrupted, lines
from pytest_suites import bad, everyday, passing
from suites.outcomes import command, environment

FAILING = "def test_fails_{n}():\n    assert {n} == -1\n\n"
MIXED = {
    "pytest.ini": "[pytest]\nmarkers = slow: takes long\n",
    "test_a.py": passing(4) + "\n" + FAILING.format(n=1) + passing(2, "late"),
    "sub/test_b.py": FAILING.format(n=2) + passing(5, "b"),
    "sub/test_c.py": (
        "import pytest\n\n\n@pytest.mark.slow\nclass TestC:\n"
        "    def test_slow(self):\n        pass\n"
        "\n    @pytest.mark.parametrize('n', [1, 2, 3])\n    def test_n(self, n):\n        pass\n"
    ),
}
ONE_FILE = {"pytest.ini": "[pytest]\n", "test_a.py": MIXED["test_a.py"] + FAILING.format(n=3)}


@pytest.mark.parametrize(
    "options",
    [
        ("-k", "b or slow"), ("-k", "not fails"), ("-m", "slow"), ("-m", "not slow"),
        ("sub",), ("sub/test_c.py::TestC",), ("sub/test_c.py::TestC::test_n[2]", "test_a.py"),
        ("--ignore=sub",), ("--deselect", "test_a.py::test_fails_1"),
        ("-p", "no:cacheprovider"), ("-p", "no:warnings"), ("-p", "no:doctest", "-q"),
        ("-o", "junit_family=legacy"), ("--tb=no", "-q"), ("--tb=line",), ("--tb=short", "-rA"),
        ("-s",), ("--capture=sys",), ("--durations=3",), ("-W", "error"), ("-vv",),
        ("--import-mode=importlib",), ("-k", "matches_nothing"), ("sub/test_b.py", "sub/test_b.py"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_same_cases_counts_and_exit_code(pair: Pair, options: tuple[str, ...]) -> None:
    pair.same(MIXED, *options)


@pytest.mark.parametrize(
    "options",
    [("--no-such-option",), ("no_such_file.py",), ("test_a.py::no_such_test",), ("-k", "a ("),
     ("-m", "("), ("-p", "no_such_plugin"), ("-c", "no_such.ini")],
    ids=" ".join,
)  # fmt: skip
def test_usage_errors_are_pytests_own(pair: Pair, options: tuple[str, ...]) -> None:
    plain, other = pair.plain(MIXED, *options), pair.dtf(MIXED, *options)
    assert other.exit_code == plain.exit_code != 0
    said = [line for line in plain.out.splitlines() if line.startswith("ERROR")]
    for line in said:
        assert line in other.out


def test_an_empty_directory_is_5(pair: Pair) -> None:
    plain, _ = pair.same({"pytest.ini": "[pytest]\n"})
    assert plain.exit_code == 5


def test_collect_only_prints_the_tree(pair: Pair) -> None:
    for options in (("--co",), ("--co", "-q"), ("--co", "-q", "-k", "slow")):
        plain, other = pair.plain(MIXED, *options), pair.dtf(MIXED, *options)
        wanted, said = (re.sub(r" in [\d.]+s", "", run.out) for run in (plain, other))
        assert other.exit_code == plain.exit_code
        assert set(wanted.splitlines()) <= set(said.splitlines())


@pytest.mark.parametrize("option", ["-x", "--maxfail=1", "--maxfail=2"])
def test_stops_after_so_many_failures_in_one_file(pair: Pair, option: str) -> None:
    plain, other = pair.same(ONE_FILE, option, extra=["--dtf-split=file"])
    assert (other.exit_code, "stopping after" in other.out) == (1, True)
    assert other.totals["failed"] == plain.totals["failed"]


def test_stops_the_whole_pool_at_the_first_failure(pair: Pair) -> None:
    slow = "import time\n\n\n" + "".join(
        f"def test_slow_{n}():\n    time.sleep(0.2)\n\n\n" for n in range(50)
    )
    files = {"pytest.ini": "[pytest]\n", "test_a.py": FAILING.format(n=0)}
    files |= {f"test_slow_{n}.py": slow for n in range(4)}
    other = pair.dtf(files, "-x")
    assert (other.exit_code, other.totals["failed"]) == (1, 1), other.out
    assert "stopping after 1 failures" in other.out
    assert other.totals.get("passed", 0) < 100


def test_last_failed_and_failed_first(pair: Pair) -> None:
    plain, _ = pair.same_after(MIXED, [], ["--lf"])
    assert plain.totals["failed"] == 2
    pair.same_after(MIXED, [], ["--ff"])
    pair.same_after(MIXED, ["sub"], ["--lf", "--lfnf=none"])
    pair.same_after(MIXED, ["-k", "not fails"], ["--lf"])
    pair.same_after(MIXED, [], ["--nf"])


def test_failed_first_reports_the_failed_ones_first(pair: Pair) -> None:
    pair.fresh(MIXED)
    pair.run(dtf=True)
    again = pair.run("--ff", "-v", "--dtf-split=shard", dtf=True)
    told = [line for line in again.out.splitlines() if re.search(r"::\S+ (PASSED|FAILED)", line)]
    assert "FAILED" in told[0], again.out


def test_stepwise_or_a_word_why_not(pair: Pair) -> None:
    other = pair.dtf(ONE_FILE, "--sw", "--dtf-split=file")
    assert other.exit_code in (1, 2, 4)
    assert other.totals.get("failed") == 1 or "--sw" in other.out or "stepwise" in other.out


def test_live_output_is_whole_lines(pair: Pair) -> None:
    text = (
        "import sys\n\n\ndef test_talks():\n    for n in range(60):\n"
        "        for part in ('NAME', ' says ', str(n), '\\n'):\n"
        "            sys.stdout.write(part)\n            sys.stdout.flush()\n"
    )
    files = {
        f"test_{name}.py": text.replace("NAME", name) for name in ("ada", "bob", "cleo", "dan")
    }
    other = pair.dtf({**files, "pytest.ini": "[pytest]\n"}, "-s")
    assert other.exit_code == 0, other.out
    said = Counter(re.findall(r"\b(ada|bob|cleo|dan) says (\d+)$", other.out, re.M))
    assert said == Counter(
        (name, str(n)) for name in ("ada", "bob", "cleo", "dan") for n in range(60)
    )


def test_a_junit_file_holds_properties_output_and_times(pair: Pair) -> None:
    plain = pair.plain(everyday.OUTCOMES, "-o", "junit_logging=all")
    wanted = _texts(pair.base / "out.xml")
    other = pair.dtf(everyday.OUTCOMES, "-o", "junit_logging=all")
    assert other.cases == plain.cases
    assert _texts(pair.base / "out.xml") == wanted
    suite = ET.parse(pair.base / "out.xml").getroot()[0]
    assert float(suite.get("time", "0")) > 0


def _texts(junit: Path) -> Counter[tuple[str, str, str]]:
    cases = ET.parse(junit).getroot().iter("testcase")
    told = [(case, child) for case in cases for child in case if child.tag.startswith("system")]
    return Counter((case.get("name", ""), child.tag, child.text or "") for case, child in told)


def test_verbose_lines_name_the_same_outcomes(pair: Pair) -> None:
    plain, other = pair.same(MIXED, "-v")
    ending = re.compile(r" +\[ *\d+%\]$")
    for start in ("test_a.py::", "sub/test_"):
        wanted = Counter(ending.sub("", line) for line in lines(plain.out, start))
        assert Counter(ending.sub("", line) for line in lines(other.out, start)) == wanted


def test_xdists_option_is_refused_with_the_one_to_use(pair: Pair) -> None:
    for options in (("-n", "2"), ("-n2",), ("-n", "auto"), ("--numprocesses=2",)):
        other = pair.dtf(MIXED, *options)
        assert other.exit_code == 4, other.out
        assert "--dtf-workers" in other.out


def test_without_dtf_the_plugin_changes_nothing(pair: Pair) -> None:
    with_it, without = pair.plain(MIXED), pair.plain(MIXED, "-p", "no:dtf")
    assert with_it.cases == without.cases
    assert with_it.totals == without.totals


def test_one_interrupt_cancels_on_the_pool(pair: Pair) -> None:
    text = (
        "import os\nimport time\nfrom pathlib import Path\n\n\ndef test_sleeps():\n"
        "    Path(__file__).with_name('pid').write_text(str(os.getpid()))\n    time.sleep(1000)\n"
    )
    files = {"pytest.ini": "[pytest]\n", "test_a.py": text, "test_b.py": passing(3)}
    with pair.start(files) as process:
        noted = pair.directory / "pid"
        until(lambda: noted.exists() and noted.read_text(), "the test runs")
        out = interrupted(process)
        assert process.returncode == 2, out
        assert "KeyboardInterrupt" in out or "Interrupted" in out
    pid = int(noted.read_text())
    until(lambda: not psutil.pid_exists(pid) or _is_over(pid), "the test has ended on the pool")
    assert pair.dtf(MIXED, "-k", "slow").exit_code == 0


def _is_over(pid: int) -> bool:
    """The process ended, or works for nobody's test."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("how", ["exit", "interrupt"])
def test_a_test_may_end_the_whole_run(pair: Pair, how: str) -> None:
    plain, other = pair.plain(bad.stopping(how)), pair.dtf(bad.stopping(how))
    assert other.exit_code == plain.exit_code
    assert other.totals.get("passed") == plain.totals.get("passed")


def test_without_a_pool_one_is_started_and_ended(tmp_path: Path) -> None:
    pair = Pair(tmp_path, {"DTF_DATA_DIR": str(tmp_path / "data")})
    pair.same(MIXED)
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])]
    until(lambda: not any(p.is_running() for p in left), lambda: f"left: {left}")


def test_a_server_that_is_not_there_is_said_so(pair: Pair) -> None:
    other = pair.dtf(MIXED, "--dtf-server", "nats://127.0.0.1:1")
    assert other.exit_code not in (0, 1, 5), other.out
    assert "127.0.0.1:1" in other.out
    assert "Traceback" not in other.out


def test_two_runs_at_once_do_not_mix(pair: Pair) -> None:
    pair.fresh(MIXED)
    words = ["--dtf", "-p", "no:cacheprovider"]
    env = environment({**pair.pool, "HOME": str(pair.base)})
    started = [
        subprocess.Popen(
            command([*words, part]), cwd=pair.directory, env=env, text=True, stdout=subprocess.PIPE
        )
        for part in ("test_a.py", "sub")
    ]
    outs = [process.communicate(timeout=LIMIT_S)[0] for process in started]
    assert "1 failed, 6 passed" in outs[0]
    assert "1 failed, 9 passed" in outs[1]


def test_a_second_interrupt_leaves_at_once(pair: Pair) -> None:
    if sys.platform == "win32":
        return
    with pair.start(bad.FOR_EVER) as process:
        until((pair.directory / "started").exists, "the test runs")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0


def test_a_case_that_asks_for_a_device_nobody_has_is_never_passed_elsewhere(pair: Pair) -> None:
    files = {
        "pytest.ini": "[pytest]\n",
        "test_a.py": (
            "import os\nimport pytest\n\nHERE = os.getpid()\n\n\ndef test_plain():\n    pass\n\n\n"
            "@pytest.mark.dtf(hardware='cuda')\ndef test_cuda():\n    pass\n\n\n"
            "@pytest.mark.dtf(memory='32Mi')\ndef test_memory():\n    pass\n\n\n"
            "@pytest.mark.dtf(isolation='case')\ndef test_alone():\n"
            "    os.environ['LEFT'] = '1'\n\n\n"
            "def test_after():\n    assert 'LEFT' not in os.environ\n"
        ),
    }
    other = pair.dtf(files)
    assert other.exit_code == 1
    assert other.totals == {"passed": 4, "error": 1}
    assert "asks for cuda" in other.out
    assert "no_capacity" in other.out


def test_a_session_that_ends_with_a_hook_ends_in_the_process_it_began_in(pair: Pair) -> None:
    hook = (
        "def pytest_{0}({1}):\n    with open(LOG, 'a') as log:\n"
        "        log.write(f'{0} {{os.getpid()}}\\n')\n\n\n"
    )
    files = {
        "pytest.ini": "[pytest]\n",
        "conftest.py": (
            "import os\nfrom pathlib import Path\n\nLOG = Path(__file__).with_name('log')\n\n\n"
            + hook.format("configure", "config")
            + hook.format("sessionfinish", "session")
        ),
        "test_a.py": passing(2),
        "test_b.py": passing(2),
    }
    assert pair.dtf(files, "--dtf-isolation=shard").exit_code == 0

    def told(word: str) -> set[str]:
        log = (pair.directory / "log").read_text().splitlines()
        return {line.split()[1] for line in log if line.startswith(word)}

    until(lambda: len(told("sessionfinish")) > 1, "a worker's session has finished, too")
    assert told("sessionfinish") <= told("configure")
