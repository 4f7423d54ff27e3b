"""The pytest runner alone: what tests do to their process costs no report of another case."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_runner import files_work, pooled, write_suite

HOSTILE = {
    "test_1.py": r"""
        import os, sys, threading, time
        def test_env(): os.environ["HOSTILE"] = "1"; os.environ.pop("DTF_REPORT", None)
        def test_chdir(): os.chdir("/")
        def test_thread():
            threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start()
        def test_binary(): os.write(1, bytes(range(256)) * 10)
        def test_binary_fail(): os.write(1, bytes(range(256))); assert 0
        def test_fork_exit():
            pid = os.fork()
            if pid == 0: os._exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        def test_fork_return():
            pid = os.fork()
            if pid == 0: return
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        def test_fork_raise():
            pid = os.fork()
            if pid == 0: raise ValueError
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        def test_recursion():
            def f(): f()
            f()
        def test_long(): assert "a" * 2_000_000 == "b"
        def test_long_output(): print("x" * 3_000_000); assert 0
        def test_surrogate(): print("\udcff"); raise ValueError("\udcff \ud800 \x00")
        def test_property(record_property):
            record_property("nan", float("nan")); record_property("object", object())
            record_property("tuple key", {(1, 2): {3}})
        def test_close_files(): os.closerange(3, 2000)
    """,
    "test_2.py": """
        import sys
        def test_close(): sys.stdout.close()
        def test_after(): print("x")
    """,
    "test_3.py": "def test_fine(): print('fine'); assert 0\n",
}
FAIL = {"binary_fail", "recursion", "long", "long_output", "surrogate"}


def test_what_tests_do_to_their_process_harms_no_other_case(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", HOSTILE)
    works = [{"files": [{"path": f"test_{n}.py"}]} for n in (1, 2, 3)]
    result = pooled(suite, works, tmp_path / "pool")
    first = {n: v for n, v in result.verdicts().items() if n.startswith("test_1")}
    assert len(first) == 14
    del first["test_1.py::test_close_files"]  # closes what pytest captures with
    for name, verdict in first.items():
        expected = "failed" if name.removeprefix("test_1.py::test_") in FAIL else "passed"
        assert verdict == expected, (name, result.cases[name])
    report = result.cases["test_3.py::test_fine"]["detail"]["reports"][1]
    assert ["Captured stdout call", "fine\n"] in report["sections"]
    begun = [line["begin"] for line in result.lines if "begin" in line]
    assert len(begun) == len(set(begun))


def test_long_texts_keep_head_and_tail_and_say_what_is_missing(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_l.py": """
                def test_text(): raise ValueError("head" + "x" * 2_000_000 + "tail")
                def test_lines(): raise ValueError("\\n".join(map(str, range(400_000))))
                def test_subtests(subtests):
                    for n in range(400):
                        with subtests.test(n=n): print("y" * 5000); assert 0
            """
        },
    )
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    for name in ("test_text", "test_lines", "test_subtests"):
        case = result.cases[f"test_l.py::{name}"]
        assert case["verdict"] == "failed"
        assert case["detail"]["cut"] is True
    text = result.cases["test_l.py::test_text"]["detail"]["reports"][1]["longrepr"]
    told = text["reprcrash"]["message"]
    assert told.startswith("ValueError: headx")
    assert told.endswith("xtail")
    assert "characters left out ...]" in told


@pytest.mark.parametrize("how", ["os._exit(3)", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_dead_interpreter_leaves_the_name_of_the_case_that_ran(how: str, tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {"test_c.py": f"import os\ndef test_1(): pass\ndef test_2(): {how}\ndef test_3(): pass\n"},
    )
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    assert result.verdicts() == {"test_c.py::test_1": "passed"}
    assert result.lines[-1] == {"begin": "test_c.py::test_2"}
    assert result.ends == []


def test_a_file_that_kills_its_importer_is_named(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", {"test_c.py": "import os\nos._exit(9)\n"})
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    assert result.lines == [{"begin": "test_c.py"}]


def test_isolated_cases_survive_each_other(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_c.py": """
                import os, sys, pytest
                seen = []
                def test_1(): seen.append(1)
                def test_2(): assert not seen
                def test_dies(): os.kill(os.getpid(), 11)
                def test_exits(): os._exit(0)
                def test_once(tmp_path):
                    if not os.path.exists("once"): open("once", "w").close(); os._exit(1)
                def test_leaves_child():
                    import time
                    if os.fork() == 0: time.sleep(3); os._exit(0)
                def test_fails(): assert 0
                def test_last(): pass
            """
        },
    )
    result = pooled(suite, [files_work(suite, isolation="case")], tmp_path / "pool", timeout=25)
    told = {
        n.rpartition("_")[2]: (c["verdict"], c.get("tries", 1)) for n, c in result.cases.items()
    }
    assert told == {
        "1": ("passed", 1),
        "2": ("passed", 1),
        "dies": ("failed", 2),
        "exits": ("failed", 2),
        "once": ("passed", 2),
        "child": ("passed", 1),
        "fails": ("failed", 1),
        "last": ("passed", 1),
    }
    messages = [result.cases[f"test_c.py::test_{name}"]["message"] for name in ("dies", "exits")]
    assert messages == [
        "the interpreter died (SIGSEGV) while it ran",
        "the interpreter exited with status 0 while it ran",
    ]
    assert result.ends[0]["exit_code"] == 1


def test_where_cloning_is_unsafe_an_isolated_case_gives_back_the_others(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "conftest.py": """
                import threading, time
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            """,
            "test_c.py": "def test_1(): pass\ndef test_2(): pass\n",
        },
    )
    result = pooled(suite, [files_work(suite, isolation="case")], tmp_path / "pool")
    value = result.ends[0]["value"]
    assert list(result.cases) == ["test_c.py::test_1"]
    assert value["fresh"] is True
    assert value["rest"] == [{"path": "test_c.py", "ids": ["test_c.py::test_2"]}]


def test_retries_run_a_failed_case_again_with_new_fixtures(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_r.py": """
                import pytest
                count = {"flaky": 0, "fix": 0, "mod": 0, "down": 0}
                @pytest.fixture
                def new(tmp_path): return []
                @pytest.mark.dtf(retries=2)
                def test_flaky(new):
                    assert new == []
                    new.append(1); count["flaky"] += 1
                    print("try", count["flaky"])
                    assert count["flaky"] == 3
                @pytest.mark.dtf(retries=1)
                def test_never(record_property): record_property("a", 1); assert 0
                @pytest.fixture(scope="module")
                def fix():
                    count["fix"] += 1
                    if count["fix"] == 1: raise OSError("first")
                    yield
                    count["down"] += 1
                @pytest.mark.dtf(retries=3)
                def test_setup(fix): pass
                def test_shared(fix): assert count["fix"] == 2 and count["down"] == 0
                @pytest.mark.dtf(retries=3)
                class TestC:
                    n = 0
                    def test_m(self):
                        assert not hasattr(self, "x"); self.x = 1; TestC.n += 1; assert TestC.n == 2
                @pytest.mark.dtf(retries=1)
                def test_last(fix): assert count["down"] == 0
            """
        },
    )
    result = pooled(suite, [files_work(suite, stop_after=2)], tmp_path / "pool")
    told = {n[11:]: (c["verdict"], c.get("tries", 1)) for n, c in result.cases.items()}
    assert told == {
        "test_flaky": ("passed", 3),
        "test_never": ("failed", 2),
        "test_setup": ("passed", 2),
        "test_shared": ("passed", 1),
        "TestC::test_m": ("passed", 2),
        "test_last": ("passed", 1),
    }
    flaky = result.cases["test_r.py::test_flaky"]["detail"]
    assert len(flaky["earlier"]) == 2
    assert flaky["reports"][1]["sections"] == [["Captured stdout call", "try 3\n"]]
    never = result.cases["test_r.py::test_never"]["detail"]["reports"][1]
    assert never["user_properties"] == [["a", 1]]


@pytest.mark.parametrize(
    ("body", "isolation"),
    [
        ("import time; time.sleep(60)", "none"),
        ("print('so far')\n    while True: pass", "case"),
    ],
)
def test_a_case_that_runs_too_long_is_cut_with_its_stacks(
    body: str, isolation: str, tmp_path: Path
) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_t.py": "import pytest\ndef test_1(): pass\n"
            f"@pytest.mark.dtf(timeout=0.5)\ndef test_hangs():\n    {body}\n"
            "def test_3(): pass\n"
        },
    )
    work = files_work(suite, isolation=isolation, timeout_s=20)
    result = pooled(suite, [work], tmp_path / "pool", timeout=30)
    case = result.cases["test_t.py::test_hangs"]
    assert case["verdict"] == "timed_out"
    assert "0.5 s" in case["message"]
    assert "test_hangs" in case["detail"]["reports"][0]["longrepr"]
    assert "test_t.py" in result.output  # faulthandler's stacks
    if isolation == "none":
        assert result.codes == [77]
        assert "test_t.py::test_3" not in result.cases
    else:
        assert case["detail"]["reports"][0]["sections"] == [["Captured stdout call", "so far\n"]]
        assert result.verdicts()["test_t.py::test_3"] == "passed"
        assert result.codes == [1]


def test_a_case_that_holds_the_interpreter_is_ended_all_the_same(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_t.py": "import ctypes\n"
            "def test_gil(): ctypes.PyDLL(None).sleep(60)\ndef test_after(): pass\n"
        },
    )
    result = pooled(suite, [files_work(suite, timeout_s=0.5)], tmp_path / "pool", timeout=30)
    assert result.cases == {}
    assert result.lines[-1] == {"begin": "test_t.py::test_gil", "timeout_s": 0.5}
    assert "test_gil" in result.output
