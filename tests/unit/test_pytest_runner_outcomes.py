"""The pytest runner alone: each case of nasty suites ends as under plain pytest."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from pytest_runner import files_work, plain, pooled, runner_facts, same_as_plain, write_suite

SUITES: dict[str, tuple[list[str], dict[str, str]]] = {}
PLAIN: dict[str, dict[str, Any]] = {}

SUITES["outcomes"] = (
    ["-rA"],
    {
        "test_a.py": """
            import pytest, sys, os
            def test_pass(): pass
            def test_fail(): assert 1 == 2, "no"
            def test_print(): print("out"); print("err", file=sys.stderr)
            def test_print_fail(): print("out"); assert 0
            @pytest.mark.skip(reason="not now")
            def test_skip(): pass
            def test_skip_inside(): pytest.skip("inside")
            @pytest.mark.skipif("True", reason="because")
            def test_skipif(): pass
            @pytest.mark.xfail(reason="bug 1")
            def test_xfail(): assert 0
            @pytest.mark.xfail
            def test_xfail_no_reason(): assert 0
            @pytest.mark.xfail(strict=True)
            def test_xpass_strict(): pass
            @pytest.mark.xfail
            def test_xpass(): pass
            @pytest.mark.xfail(raises=ValueError)
            def test_xfail_wrong(): raise TypeError
            @pytest.mark.xfail(run=False)
            def test_xfail_norun(): os._exit(1)
            def test_imperative_xfail(): pytest.xfail("imp")
            @pytest.fixture
            def bad(): raise RuntimeError("set-up")
            @pytest.fixture
            def late():
                yield
                raise RuntimeError("tear-down")
            def test_setup_error(bad): pass
            def test_teardown_error(late): pass
            def test_both(late): assert 0
            @pytest.mark.xfail
            def test_setup_xfail(bad): pass
            def test_unknown_fixture(nothing): pass
            def test_recursion():
                def f(): f()
                f()
            def test_property(record_property): record_property("k", 3)
            def test_exit(): sys.exit(3)
            def test_returns_group(): raise ExceptionGroup("g", [ValueError(1), TypeError(2)])
            def test_chain():
                try: 1/0
                except ZeroDivisionError as e: raise ValueError("x") from e
            class TestC:
                def setup_method(self): self.x = 1
                def test_m(self): assert self.x == 1
                def test_n(self): assert self.x == 2
        """,
        "test_log.py": """
            import logging
            def test_log(caplog): logging.getLogger("a").warning("hello"); assert caplog.records
            def test_log_fail(): logging.getLogger("a").error("bad"); assert 0
        """,
    },
)

SUITES["fixtures"] = (
    [],
    {
        "conftest.py": """
            import pytest, os
            os.environ["SET_BY_CONFTEST"] = "1"
            log = []
            @pytest.fixture(scope="session")
            def sess():
                log.append("s"); yield log
            @pytest.fixture(scope="session", params=["p", "q"])
            def both(request): return request.param
            @pytest.fixture(autouse=True)
            def auto(monkeypatch): monkeypatch.setenv("AUTO", "1")
        """,
        "pkg/__init__.py": "",
        "pkg/conftest.py": """
            import pytest
            state = {"n": 0}
            @pytest.fixture(scope="package")
            def pack():
                state["n"] += 1
                yield state["n"]
        """,
        "pkg/test_p.py": """
            import os
            def test_p(pack, sess): assert sess.count("s") == 1
            def test_env(): assert os.environ["SET_BY_CONFTEST"] == "1"
            def test_auto(): assert os.environ["AUTO"] == "1"
        """,
        "pkg/test_q.py": "def test_q(pack, both): assert both in 'pq'\n",
        "pkg/sub/__init__.py": "",
        "pkg/sub/test_deep.py": "def test_deep(pack, sess, both): pass\n",
        "other/test_p2.py": """
            import pytest
            @pytest.fixture(scope="module")
            def mod():
                yield 1
                raise ValueError("module teardown")
            @pytest.fixture(scope="class")
            def cls(): yield []
            class TestX:
                def test_1(self, cls): cls.append(1)
                def test_2(self, cls): assert cls == [1]
            def test_m(mod, sess): pass
            def test_last(mod): pass
        """,
        "other/test_tmp.py": """
            def test_t(tmp_path): (tmp_path / "x").write_text("1")
            def test_t2(tmp_path): assert not (tmp_path / "x").exists()
            def test_f(tmp_path_factory): assert tmp_path_factory.mktemp("one", numbered=False)
            def test_cap(capsys): print("x"); assert capsys.readouterr().out == "x\\n"
            def test_capfd(capfd):
                import os; os.write(1, b"y"); assert capfd.readouterr().out == "y"
            def test_patch(monkeypatch): monkeypatch.chdir("/")
            def test_cwd():
                import os; assert os.path.exists("conftest.py")
        """,
        "other/test_broken_module.py": """
            def setup_module(): raise RuntimeError("mod")
            def test_1(): pass
            def test_2(): pass
        """,
    },
)

SUITES["ids"] = (
    [],
    {
        "test_ids.py": r"""
            import pytest
            @pytest.mark.parametrize("v", ["a", "a", "ü", "☃", "", " ", "a::b", "[x]", "\n\t\0",
                "\ud800", pytest.param("l", id="x" * 3000), b"\xff", 1.5, None, "/", "😀"])
            def test_v(v): assert v is not 1.5
            @pytest.mark.parametrize("v", [1, 2], ids=["same", "same"])
            def test_dup(v): pass
            @pytest.mark.parametrize(("a", "b"), [(1, 2), pytest.param(3, 4, id="x::y[z]")])
            class TestP:
                def test_ab(self, a, b): assert a == 1
        """,
    },
)

SUITES["unicode ids"] = (
    ["-o", "disable_test_id_escaping_and_forfeit_all_rights_to_community_support=true"],
    {
        "test_ids.py": r"""
            import pytest
            @pytest.mark.parametrize("v", ["ü", "☃", "😀", "a\x1bb", "a\x01"])
            def test_v(v): print(v); assert v != "☃"
        """,
    },
)

SUITES["unittest and doctest"] = (
    ["--doctest-modules", "--doctest-glob=*.txt"],
    {
        "test_u.py": '''
            """
            >>> 1 + 1
            2
            """
            import unittest
            class T(unittest.TestCase):
                @classmethod
                def setUpClass(cls): cls.x = 1
                def test_ok(self): self.assertEqual(self.x, 1)
                def test_bad(self): self.assertEqual(self.x, 2)
                @unittest.skip("why")
                def test_skip(self): pass
                @unittest.expectedFailure
                def test_xf(self): self.fail()
                @unittest.expectedFailure
                def test_xp(self): pass
                def test_sub(self):
                    for i in range(3):
                        with self.subTest(i=i): self.assertNotEqual(i, 1)
            class Inherits(T): pass
        ''',
        "lib.py": '''
            def f():
                """
                >>> f()
                1
                """
                return 2
            def test_not_collected_as_function(): assert 0
        ''',
        "doc.txt": ">>> 2 * 3\n6\n>>> print('é')\né\n",
    },
)

SUITES["subtests"] = (
    [],
    {
        "test_s.py": """
            import pytest
            def test_all_pass(subtests):
                for i in range(2):
                    with subtests.test(i=i): pass
            def test_one_fails(subtests):
                for i in range(3):
                    with subtests.test("m", i=i): print(i); assert i != 1
            def test_skips(subtests):
                with subtests.test("s"): pytest.skip("sub")
            def test_both(subtests):
                with subtests.test("m"): assert 0
                assert 0
        """,
    },
)

SUITES["collection"] = (
    ["--continue-on-collection-errors"],
    {
        "test_ok.py": "def test_x(): pass\n",
        "test_import.py": "import not_there_at_all\ndef test_x(): pass\n",
        "test_syntax.py": "def test_x(:\n",
        "test_skipped.py": """
            import pytest
            pytest.skip("whole module", allow_module_level=True)
        """,
        "test_importorskip.py": "import pytest\npytest.importorskip('not_there')\n",
        "test_empty.py": "",
        "test_assert.py": "assert 1 == 2\n",
        "sub/conftest.py": "collect_ignore = ['test_ignored.py']\n",
        "sub/test_ignored.py": "def test_x(): pass\n",
        "sub/test_seen.py": "def test_x(): pass\n",
    },
)

SUITES["custom"] = (
    [],
    {
        "conftest.py": """
            import pytest
            class Yaml(pytest.File):
                def collect(self):
                    for line in self.path.read_text().split():
                        yield Case.from_parent(self, name=line)
            class Case(pytest.Item):
                def runtest(self):
                    if self.name == "bad": raise ValueError("bad")
                def repr_failure(self, excinfo): return "custom text"
                def reportinfo(self): return self.path, None, "case: " + self.name
            def pytest_collect_file(parent, file_path):
                if file_path.suffix == ".cases":
                    return Yaml.from_parent(parent, path=file_path)
            def pytest_collection_modifyitems(items):
                items.reverse()
            def pytest_addoption(parser): parser.addoption("--mine", default="x")
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_makereport(item, call):
                rep = yield
                rep.extra_thing = object()
                return rep
        """,
        "test_cases.cases": "good bad other",
        "test_mine.py": "def test_m(request): assert request.config.getoption('mine') == 'x'\n",
        "test_n.py": "def test_n(): pass\ndef test_o(): assert 0\n",
    },
)

SUITES["selection"] = (
    ["-k", "yes or both", "-m", "not slow", "--deselect", "test_k.py::test_yes_3", "-v"],
    {
        "pytest.ini": "[pytest]\nmarkers = slow\naddopts = --strict-markers -p no:doctest\n",
        "test_k.py": """
            import pytest
            def test_yes(): pass
            @pytest.mark.slow
            def test_yes_2(): pass
            def test_yes_3(): pass
            def test_no(): pass
        """,
        "test_both.py": "def test_1(): pass\n",
    },
)

SUITES["warnings"] = (
    ["-W", "error::UserWarning", "-W", "ignore::ImportWarning", "-p", "no:asyncio"],
    {
        "test_w.py": """
            import warnings, pytest
            warnings.warn("at import", DeprecationWarning)
            def test_error(): warnings.warn("x", UserWarning)
            def test_warns(): warnings.warn("y", FutureWarning)
            @pytest.mark.filterwarnings("ignore")
            def test_ignored(): warnings.warn("z", UserWarning)
            def test_recwarn(recwarn): warnings.warn("q", RuntimeWarning); assert len(recwarn) == 1
        """,
    },
)

SUITES["async"] = (
    [],
    {
        "pytest.ini": """
            [pytest]
            asyncio_mode = auto
            asyncio_default_fixture_loop_scope = function
            markers = anyio
        """,
        "test_async.py": """
            import asyncio, pytest
            @pytest.fixture
            async def number():
                await asyncio.sleep(0)
                yield 3
            @pytest.fixture(scope="module")
            async def shared(): return []
            async def test_number(number): assert number == 3
            async def test_fails(number): assert number == 4
            @pytest.mark.asyncio(loop_scope="module")
            async def test_shared(shared): shared.append(1)
            class TestC:
                async def test_in_class(self): await asyncio.sleep(0)
        """,
        "test_anyio.py": """
            import pytest
            pytestmark = pytest.mark.anyio
            async def test_any(anyio_backend_name): pass
            @pytest.fixture(params=["asyncio"])
            def anyio_backend(request): return request.param
            async def test_backend(anyio_backend): assert anyio_backend == "asyncio"
        """,
    },
)


def _pattern(name: str) -> list[str]:
    if name == "unittest and doctest":
        return ["*.py", "*.txt"]
    return ["test_*.py", "*.cases"] if name == "custom" else ["test_*.py"]


def _works(name: str, suite: Path) -> list[dict[str, object]]:
    entries = []
    for pattern in _pattern(name):
        entries += files_work(suite, pattern)["files"]
    return entries


@pytest.mark.parametrize("mode", ["together", "shards", "clones", "cases"])
@pytest.mark.parametrize("name", list(SUITES))
def test_each_case_ends_as_in_plain_pytest(name: str, mode: str, tmp_path: Path) -> None:
    args, files = SUITES[name]
    suite = write_suite(tmp_path / "suite", files)
    if name not in PLAIN:  # the same for each mode
        PLAIN[name], _ = plain(suite, args, tmp_path / "plain")
    expected = copy.deepcopy(PLAIN[name])
    entries = _works(name, suite)
    works = [{"files": entries}] if mode == "together" else [{"files": [e]} for e in entries]
    if mode == "cases":
        works = [{"files": entries, "isolation": "case"}]
    result = pooled(suite, works, tmp_path / "pool", args=args, fork=mode == "clones")
    if name == "collection":
        expected.pop("sub/test_ignored.py", None)
    if name == "ids":  # an id of 3,000 characters travels cut
        (long,) = (n for n in expected if len(n) > 2000)
        (short,) = (n for n in result.cases if "...#" in n)
        assert len(short) <= 2000
        expected[short] = expected.pop(long)
        expected[short]["location"] = runner_facts(result.cases[short])["location"]
    if name == "unittest and doctest":  # plain pytest's terminal prints into the captured output
        for case in ("T", "Inherits"):
            expected[f"test_u.py::{case}::test_sub"]["sections"] = []
    if name == "fixtures" and mode == "cases":  # each case has the fixtures of its class anew
        assert result.cases.pop("other/test_p2.py::TestX::test_2")["verdict"] == "failed"
        assert result.cases.pop("other/test_p2.py::test_m")["verdict"] == "error"
        del expected["other/test_p2.py::TestX::test_2"], expected["other/test_p2.py::test_m"]
    same_as_plain(suite, result, expected)
