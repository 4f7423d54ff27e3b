"""The pytest runner alone: which cases of a shard run, what ends it, what it tells at the end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pytest_runner import files_work, plain, pooled, same_as_plain, write_suite

TWO = {
    "test_a.py": "".join(f"def test_{n}(): pass\n" for n in range(4)),
    "test_b.py": "def test_x(): assert 0\ndef test_y(): assert 0\ndef test_z(): pass\n",
}


def entry(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, **more}


def test_ids_choose_and_what_is_missing_is_told(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", TWO)
    ids = ["test_a.py::test_2", "test_a.py::gone"]
    result = pooled(suite, [{"files": [entry("test_a.py", ids=ids)]}], tmp_path / "pool")
    assert result.verdicts() == {"test_a.py::test_2": "passed"}
    assert result.ends[0]["value"]["missing"] == ["test_a.py::gone"]
    assert result.codes == [0]


def test_not_runs_the_rest_of_a_split_file(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", TWO)
    excluded = {"path": "test_a.py", "not": ["test_a.py::test_0", "test_a.py::test_3"]}
    result = pooled(suite, [{"files": [excluded]}], tmp_path / "pool")
    assert sorted(result.cases) == ["test_a.py::test_1", "test_a.py::test_2"]


def test_a_file_twice_in_a_shard_and_a_name_used_twice_run(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "conftest.py": """
                import pytest
                class F(pytest.File):
                    def collect(self):
                        for name in ("same", "same"): yield I.from_parent(self, name=name)
                class I(pytest.Item):
                    def runtest(self): pass
                def pytest_collect_file(parent, file_path):
                    if file_path.suffix == ".twice": return F.from_parent(parent, path=file_path)
            """,
            "a.twice": "",
        },
    )
    result = pooled(suite, [{"files": [entry("a.twice")]}], tmp_path / "pool")
    lines = [line["case"]["id"] for line in result.lines if "case" in line]
    assert lines == ["a.twice::same", "a.twice::same"]


def test_collected_tells_counts_digest_and_ids(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", TWO)
    work = files_work(suite, ids_wanted=True)
    result = pooled(suite, [work], tmp_path / "pool", args=["-k", "not test_3"])
    ids = [f"test_a.py::test_{n}" for n in range(3)]
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    expected = {"file": "test_a.py", "selected": 3, "deselected": 1, "digest": digest, "ids": ids}
    assert result.collected[0] == expected
    assert [told["file"] for told in result.collected] == ["test_a.py", "test_b.py"]


def test_last_failed_deselects_the_others(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        TWO | {"test_c.py": "class TestC:\n  def test_1(self): pass\n  def test_2(self): pass\n"},
    )
    work = files_work(suite, lastfailed=["test_b.py::test_x", "test_c.py::TestC"])
    result = pooled(suite, [work], tmp_path / "pool")
    assert sorted(result.cases) == [
        "test_b.py::test_x",
        "test_c.py::TestC::test_1",
        "test_c.py::TestC::test_2",
    ]
    assert [(t["selected"], t["deselected"]) for t in result.collected] == [(0, 4), (1, 2), (2, 0)]


def test_stop_after_stops_as_maxfail_does_and_the_next_shard_runs(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", TWO)
    works = [{"files": [entry("test_b.py")], "stop_after": 1}, {"files": [entry("test_a.py")]}]
    result = pooled(suite, works, tmp_path / "pool")
    expected, code = plain(suite, ["test_b.py", "--maxfail=1"], tmp_path / "plain")
    assert set(expected) == {"test_b.py::test_x"}
    assert "test_b.py::test_y" not in result.cases
    assert result.ends[0]["value"]["stopped"] == "stopping after 1 failures"
    assert result.ends[0]["exit_code"] == code == 1
    assert result.codes == [1, 0]
    assert len(result.cases) == 5


def test_a_used_up_budget_gives_back_the_rest_with_fixtures_torn_down(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_a.py": """
                import pytest, time
                @pytest.fixture(scope="module")
                def mod():
                    yield
                    raise ValueError("late")
                def test_1(mod): time.sleep(0.05)
                def test_2(mod): pass
            """,
            "test_b.py": "def test_b(): pass\n",
        },
    )
    result = pooled(suite, [files_work(suite, budget_ms=10)], tmp_path / "pool")
    assert result.ends[0]["value"]["rest"] == [
        {"path": "test_a.py", "ids": ["test_a.py::test_2"]},
        {"path": "test_b.py", "ids": ["test_b.py::test_b"]},
    ]
    case = result.cases["test_a.py::test_1"]
    assert (case["verdict"], case["message"]) == ("error", "ValueError: late")
    assert [report["when"] for report in case["detail"]["reports"]] == ["setup", "call", "teardown"]


def test_session_fixtures_live_until_close_and_module_fixtures_until_the_shard_ends(
    tmp_path: Path,
) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "conftest.py": """
                import pytest
                events = []
                @pytest.fixture(scope="session")
                def sess():
                    events.append("session up")
                    yield events
                    print("closing")
                    raise RuntimeError("session down")
                @pytest.fixture(scope="module", autouse=True)
                def mod(request):
                    events.append("up " + request.node.name)
                    yield
                    events.append("down " + request.node.name)
            """,
            "test_a.py": "def test_a(sess): pass\n",
            "test_b.py": """
                def test_b(sess):
                    assert sess == ["up test_a.py", "session up", "down test_a.py", "up test_b.py"]\
                        or sess == ["session up", "up test_a.py", "down test_a.py", "up test_b.py"]
            """,
        },
    )
    works = [
        {"files": [entry("test_a.py")], "host": "h1"},
        {"files": [entry("test_b.py")], "host": "h1"},
        {"close": "h1"},
    ]
    result = pooled(suite, works, tmp_path / "pool")
    values = [end["value"] for end in result.ends]
    assert [(value["host"], value["open"]) for value in values] == [
        ("h1", True),
        ("h1", True),
        ("h1", False),
    ]
    lines = [line["case"] for line in result.lines if "case" in line]
    assert [(case["id"], case["verdict"]) for case in lines] == [
        ("test_a.py::test_a", "passed"),
        ("test_b.py::test_b", "passed"),
        ("test_b.py::test_b", "error"),
    ]
    (report,) = lines[-1]["detail"]["reports"]
    assert report["when"] == "teardown"
    assert ["Captured stdout teardown", "closing\n"] in report["sections"]
    assert result.codes == [0, 0, 1]


def test_isolation_process_tears_everything_down(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_a.py": """
                import pytest
                @pytest.fixture(scope="session")
                def sess():
                    yield
                    raise RuntimeError("down")
                def test_a(sess): pass
            """,
        },
    )
    result = pooled(suite, [files_work(suite, isolation="process")], tmp_path / "pool")
    assert result.verdicts() == {"test_a.py::test_a": "error"}
    assert result.ends[0]["value"]["open"] is False


def test_what_ends_plain_pytest_ends_the_shard(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_k.py": "def test_1(): pass\ndef test_2(): raise KeyboardInterrupt\n"
            "def test_3(): pass\n",
            "test_e.py": "import pytest\ndef test_e(): pytest.exit('enough', 7)\n",
            "test_s.py": "def test_s(request): request.session.shouldstop = 'please'\n"
            "def test_t(): pass\n",
            "test_i.py": "def test_i(): pass\n",
            "test_ok.py": "def test_ok(): pass\n",
            "conftest.py": """
                import pytest
                @pytest.hookimpl(tryfirst=True)
                def pytest_runtest_logreport(report):
                    if "test_i.py" in report.nodeid and report.when == "call":
                        raise ValueError("from a hook")
            """,
        },
    )
    names = ["test_k.py", "test_e.py", "test_s.py", "test_i.py", "test_ok.py"]
    result = pooled(suite, [{"files": [entry(name)]} for name in names], tmp_path / "pool")
    ends = [(end["status"], end["exit_code"]) for end in result.ends]
    assert ends == [
        ("interrupted", 2),
        ("interrupted", 7),
        ("interrupted", 2),
        ("raised", 3),
        ("returned", 0),
    ]
    messages = [end["message"] for end in result.ends]
    assert "test_k.py:2" in messages[0]
    assert messages[1] == "enough"
    assert messages[2].endswith("please")
    assert messages[3] == "INTERNALERROR: ValueError: from a hook"
    assert set(result.cases) == {"test_k.py::test_1", "test_s.py::test_s", "test_ok.py::test_ok"}
    begun = [line["begin"] for line in result.lines if "begin" in line]
    assert "test_k.py::test_2" in begun
    assert "INTERNALERROR" in result.output


def test_a_suite_that_cannot_start_says_why_and_how_to_help(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {"conftest.py": "import not_there_at_all\n", "test_a.py": "def test_a(): pass\n"},
    )
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    (end,) = result.ends
    assert (end["status"], end["exit_code"]) == ("config", 4)
    assert "No module named 'not_there_at_all'" in end["message"]
    assert "install 'not_there_at_all' into" in end["message"]
    good = write_suite(tmp_path / "good", TWO)
    bad = pooled(good, [files_work(good)], tmp_path / "bad", args=["--no-such-option"])
    assert "--no-such-option" in bad.ends[0]["message"]


def test_a_file_that_is_not_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", TWO)
    work = {"files": [entry("test_gone.py"), entry("test_a.py")]}
    result = pooled(suite, [work], tmp_path / "pool")
    assert result.verdicts()["test_gone.py"] == "error"
    assert "no file 'test_gone.py'" in result.cases["test_gone.py"]["message"]
    assert len(result.cases) == 5


def test_a_missing_import_is_named_in_the_message(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", {"test_a.py": "import not_there_at_all\n"})
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    assert result.cases["test_a.py"]["message"] == (
        "ModuleNotFoundError: No module named 'not_there_at_all'"
    )
    assert result.cases["test_a.py"]["detail"]["collect"]["nodeid"] == "test_a.py"


def test_a_folder_whose_conftest_fails_fails_each_of_its_files(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "sub/conftest.py": "1 / 0\n",
            "sub/test_a.py": "def test_a(): pass\n",
            "sub/test_b.py": "def test_b(): pass\n",
            "test_c.py": "def test_c(): pass\n",
        },
    )
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    assert result.verdicts() == {
        "sub/test_a.py": "error",
        "sub/test_b.py": "error",
        "test_c.py::test_c": "passed",
    }
    assert "ZeroDivisionError" in result.cases["sub/test_b.py"]["message"]


def test_a_file_collected_before_the_clone_is_not_imported_again(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_a.py": "import os\nopen('imported', 'a').write('x')\n"
            "def test_a(): pass\ndef test_b(): pass\n"
        },
    )
    works = [
        {"files": [entry("test_a.py", ids=["test_a.py::test_a"])]},
        {"files": [entry("test_a.py", ids=["test_a.py::test_b"])]},
    ]
    payload = {"files": ["test_a.py"]}
    result = pooled(suite, works, tmp_path / "pool", fork=True, payload=payload)
    assert len(result.cases) == 2
    assert (suite / "imported").read_text() == "x"


def test_clones_have_temporary_folders_and_streams_of_their_own(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "conftest.py": """
                def pytest_sessionstart(session):
                    session.config._tmp_path_factory.getbasetemp()
            """,
            "test_a.py": """
                def test_a(tmp_path_factory):
                    path = tmp_path_factory.mktemp("same", numbered=False)
                    print("in", path)
                    assert 0
            """,
        },
    )
    works = [files_work(suite, host="a"), files_work(suite, host="b")]
    result = pooled(suite, works, tmp_path / "pool", fork=True)
    told = [
        section[1]
        for line in result.lines
        if "case" in line
        for section in line["case"]["detail"]["reports"][-1]["sections"]
    ]
    assert len(told) == len(set(told)) == 2


def test_the_environment_a_suite_sets_reaches_later_shards(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "conftest.py": """
                import os, pytest
                os.environ["AT_IMPORT"] = "1"
                @pytest.fixture(scope="session", autouse=True)
                def sess():
                    os.environ["IN_SESSION"] = "1"
                    yield
            """,
            "test_a.py": "import os\ndef test_a(): os.chdir('/'); os.environ.pop('HOME', None)\n",
            "test_b.py": """
                import os
                def test_b():
                    assert os.environ["AT_IMPORT"] == os.environ["IN_SESSION"] == "1"
                    assert os.path.exists("conftest.py") and "HOME" not in os.environ
                    assert os.environ["DTF_PYTEST_HOST"] == "1"
            """,
        },
    )
    works = [{"files": [entry("test_a.py")]}, {"files": [entry("test_b.py")]}]
    result = pooled(suite, works, tmp_path / "pool")
    assert set(result.verdicts().values()) == {"passed"}


def test_warnings_of_a_case_and_of_its_file_are_told(tmp_path: Path) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {
            "test_w.py": """
                import warnings
                warnings.warn("at import", FutureWarning)
                def test_1(): pass
                def test_2(): warnings.warn("in the case", RuntimeWarning)
            """
        },
    )
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    (first,) = result.cases["test_w.py::test_1"]["detail"]["warnings"]
    assert (first["message"], first["when"]) == ("at import", "collect")
    (second,) = result.cases["test_w.py::test_2"]["detail"]["warnings"]
    expected = {
        "message": "in the case",
        "category": "RuntimeWarning",
        "filename": str(suite / "test_w.py"),
        "lineno": 5,
        "when": "runtest",
        "nodeid": "test_w.py::test_2",
    }
    assert second == expected
    assert "reports" not in result.cases["test_w.py::test_2"]["detail"]


def test_without_capture_prints_go_to_the_output_and_collect_only_runs_nothing(
    tmp_path: Path,
) -> None:
    suite = write_suite(
        tmp_path / "suite",
        {"test_s.py": "import os\ndef test_s(): os.write(2, b'E'); print('P')\n"},
    )
    result = pooled(suite, [files_work(suite)], tmp_path / "pool", args=["-s"])
    assert "EP" in result.output
    only = pooled(suite, [files_work(suite)], tmp_path / "only", args=["--co"])
    assert only.cases == {}
    assert only.collected[0]["selected"] == 1


def test_options_the_client_acts_on_write_nothing_here(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", TWO | {"pytest.ini": "[pytest]\naddopts = --lf -x\n"})
    args = ["--junitxml=out.xml", "--stepwise", "--pdb"]
    work = files_work(suite, stop_after=0)
    result = pooled(suite, [work], tmp_path / "pool", args=args)
    expected, _ = plain(suite, ["-o", "addopts="], tmp_path / "plain")
    same_as_plain(suite, result, expected)
    assert not (suite / "out.xml").exists()
    assert not list(suite.glob(".pytest_cache/v/cache/lastfailed"))


def test_what_a_test_measures_belongs_to_its_case(tmp_path: Path) -> None:
    source = str(Path(__file__).parent.parent.parent / "core" / "report.py")
    suite = write_suite(
        tmp_path / "suite",
        {
            "conftest.py": f"""
                import importlib.util, sys
                spec = importlib.util.spec_from_file_location("said", {source!r})
                sys.modules["said"] = said = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(said)
            """,
            "test_m.py": """
                import said
                def test_m(): said.measure("speed", 3, "m/s")
            """,
        },
    )
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    assert result.verdicts() == {"test_m.py::test_m": "passed"}
    told = [line["measurement"] for line in result.lines if "measurement" in line]
    assert told == [{"name": "speed", "value": 3.0, "unit": "m/s", "case": "test_m.py::test_m"}]


def test_fifty_thousand_cases_in_a_file_cost_no_more_each(tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.parametrize('n', range({}))\ndef test_n(n): pass\n"
    suite = write_suite(
        tmp_path / "suite", {"test_few.py": text.format(200), "test_many.py": text.format(50_000)}
    )
    some = [f"test_many.py::test_n[{n}]" for n in range(0, 50_000, 25)]
    work = {"files": [entry("test_few.py"), entry("test_many.py", ids=some)]}
    result = pooled(suite, [work], tmp_path / "pool", args=["-p", "no:asyncio"], timeout=250)
    assert [told["selected"] for told in result.collected] == [200, 50_000]
    assert len(result.cases) == 2200
    few = [c["duration_us"] for name, c in result.cases.items() if "few" in name]
    many = [c["duration_us"] for name, c in result.cases.items() if "many" in name]
    assert sorted(many)[1000] < 20 * sorted(few)[100] + 1000


MANY_FIXTURES = {
    "test_mod.py": """
        import pytest, time
        @pytest.fixture(scope="module")
        def mod(): pass
        def test_1(mod): time.sleep(0.02)
        def test_2(): pass
    """,
    "test_unit.py": """
        import time, unittest
        class Plain(unittest.TestCase):
            def test_1(self): time.sleep(0.02)
            def test_2(self): pass
        class Shared(unittest.TestCase):
            def test_3(self): time.sleep(0.02)
            def test_4(self): pass
    """,
    "test_set.py": """
        import unittest
        class Shared(unittest.TestCase):
            @classmethod
            def setUpClass(cls): pass
            def test_1(self): pass
    """,
    "test_plain.py": "def test_1(tmp_path, monkeypatch): pass\n",
}


def test_shared_fixtures_of_a_file_are_told(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", MANY_FIXTURES)
    result = pooled(suite, [files_work(suite)], tmp_path / "pool")
    told = {line["file"]: line.get("scoped", False) for line in result.collected}
    assert told == {
        "test_mod.py": True,
        "test_unit.py": False,
        "test_set.py": True,
        "test_plain.py": False,
    }


def test_a_budget_stops_where_the_split_mode_allows(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", MANY_FIXTURES)

    def rest_of(path: str, split: str) -> list[str]:
        work = {"files": [entry(path), entry("test_plain.py")], "budget_ms": 10, "split": split}
        result = pooled(suite, [work], tmp_path / f"{split}-{path}")
        return [each for part in result.ends[0]["value"]["rest"] for each in part["ids"]]

    plain_one = "test_plain.py::test_1"
    assert rest_of("test_mod.py", "auto") == [plain_one]
    assert rest_of("test_mod.py", "case") == ["test_mod.py::test_2", plain_one]
    unit = [f"test_unit.py::Shared::test_{n}" for n in (3, 4)]
    assert rest_of("test_unit.py", "class") == [*unit, plain_one]
    assert rest_of("test_unit.py", "auto") == ["test_unit.py::Plain::test_2", *unit, plain_one]
    assert rest_of("test_unit.py", "file") == [plain_one]


def test_parts_of_a_file_are_whole_together_and_the_planner_means_the_same(tmp_path: Path) -> None:
    from dtf.core.shard_files import part_of
    from dtf.worker.runners.pytest.splitting import part_of as part_here

    suite = write_suite(tmp_path / "suite", TWO)
    ids = [f"test_a.py::test_{n}" for n in range(4)]
    works = [{"files": [entry("test_a.py", part=[number, 3])]} for number in range(3)]
    result = pooled(suite, works, tmp_path / "pool")
    lines = [line["case"]["id"] for line in result.lines if "case" in line]
    assert sorted(lines) == ids
    assert lines == sorted(ids, key=lambda each: (part_of(each, 3, "case"), each))
    for name in (*ids, "t.py::A::b[\udc80::é]"):
        for split in ("case", "class"):
            assert part_of(name, 7, split) == part_here(name, 7, split)


def test_what_is_too_much_to_name_is_left_unnamed(tmp_path: Path) -> None:
    text = """
        import pytest, time
        @pytest.mark.parametrize("n", range(9000))
        def test_x(n): time.sleep(0.02)
    """
    suite = write_suite(tmp_path / "suite", {"test_a.py": text})
    result = pooled(suite, [files_work(suite, budget_ms=10, ids_wanted=True)], tmp_path / "pool")
    assert result.collected[0]["selected"] == 9000
    assert "ids" not in result.collected[0]
    assert result.ends[0]["value"]["rest"] == [{"path": "test_a.py"}]
