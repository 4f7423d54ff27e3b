"""Suites of conftests, plugins, built-in fixtures and scopes. Rule: they stay in their place."""

from __future__ import annotations

PLACES = {
    "pytest.ini": (
        "[pytest]\npython_files = check_*.py\npython_functions = check_* test_*\n"
        "testpaths = checks\nmarkers = slow: takes long\npythonpath = lib\n"
        "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        "filterwarnings =\n    error::UserWarning\n"
    ),
    "lib/things.py": "NAME = 'from pythonpath'\n",
    "conftest.py": """
import pytest

pytest_plugins = ["own_plugin"]


def pytest_addoption(parser):
    parser.addoption("--colour", default="red")
    parser.addini("flavour", "of the day", default="sweet")


@pytest.fixture
def colour(request):
    return request.config.getoption("--colour")


@pytest.fixture
def level():
    return "root"


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "never" in item.name:
            item.add_marker(pytest.mark.skip(reason="conftest says so"))


def pytest_report_header(config):
    return "a header of the suite"
""",
    "own_plugin.py": """
import pytest


@pytest.fixture(autouse=True)
def counted(request):
    request.node.user_properties.append(("counted", 1))


def pytest_generate_tests(metafunc):
    if "generated" in metafunc.fixturenames:
        metafunc.parametrize("generated", ["g1", "g2"])
""",
    "checks/__init__.py": "",
    "checks/check_root.py": """
import asyncio
import warnings

import pytest
from things import NAME


def check_level(level):
    assert level == "root"


def check_name():
    assert NAME == "from pythonpath"


def check_colour(colour):
    assert colour == "blue"


def check_generated(generated):
    assert generated != "g2"


def check_never():
    assert 0


@pytest.mark.slow
def check_slow():
    pass


def check_warning_is_an_error():
    warnings.warn("escalated")


async def check_async():
    await asyncio.sleep(0)


@pytest.mark.usefixtures("tmp_path")
class TestGroup:
    def test_in_class(self):
        pass
""",
    "checks/deep/__init__.py": "",
    "checks/deep/conftest.py": (
        "import pytest\n\n\n@pytest.fixture\ndef level(level):\n    return level + '/deep'\n"
    ),
    "checks/deep/check_deep.py": (
        "from ..check_root import NAME\n\n\ndef check_level(level):\n"
        "    assert level == 'root/deep'\n    assert NAME\n"
    ),
    "checks/deep/ignored_by_pattern.py": "def test_no():\n    assert 0\n",
}

BUILT_IN = {
    "test_built_in.py": """
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    made = tmp_path_factory.mktemp("shared")
    (made / "file").write_text("x")
    return made


def test_tmp_path(tmp_path, shared):
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())
    assert (shared / "file").read_text() == "x"
    assert tmp_path.name.startswith("test_tmp_path")


@pytest.mark.parametrize("n", range(3))
def test_tmp_path_is_fresh(tmp_path, n):
    (tmp_path / "only").touch(exist_ok=False)


def test_monkeypatch(monkeypatch, tmp_path):
    monkeypatch.setenv("COLOUR", "blue")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "platform", "toaster")
    assert (os.environ["COLOUR"], Path.cwd(), sys.platform) == ("blue", tmp_path, "toaster")


def test_monkeypatch_is_undone():
    assert "COLOUR" not in os.environ
    assert sys.platform != "toaster"
    assert Path.cwd() == Path(__file__).parent


def test_capsys(capsys):
    print("out")
    print("err", file=sys.stderr)
    assert capsys.readouterr() == ("out\\n", "err\\n")


def test_capfd(capfd):
    os.write(1, b"low out")
    os.system("echo from a child")
    assert capfd.readouterr().out == "low outfrom a child\\n"


def test_capsysbinary(capsysbinary):
    sys.stdout.buffer.write(bytes([0, 255]))
    assert capsysbinary.readouterr().out == bytes([0, 255])


def test_caplog(caplog):
    logging.getLogger("a").warning("a word")
    assert caplog.messages == ["a word"]


def test_logs_and_fails():
    logging.getLogger("a").error("told in the log section")
    assert 0


def test_recwarn(recwarn):
    warnings.warn("seen")
    assert len(recwarn) == 1


def test_request(request):
    assert request.node.nodeid == "test_built_in.py::test_request"
    assert os.environ["PYTEST_CURRENT_TEST"] == "test_built_in.py::test_request (call)"


def test_cache(cache):
    cache.set("a/b", [1])
    assert cache.get("a/b", None) == [1]


def test_stdin_is_empty():
    with pytest.raises(OSError):
        sys.stdin.read()


def test_arguments_and_path():
    assert __name__ in sys.modules
    assert str(Path(__file__).parent) in sys.path


def test_pytestconfig(pytestconfig):
    assert pytestconfig.rootpath == Path(__file__).parent
    assert pytestconfig.invocation_params.dir == Path(__file__).parent
""",
}

SCOPES = {
    "conftest.py": """
import os
from pathlib import Path

import pytest

LOG = Path(__file__).parent / "fixtures.log"


def note(word):
    with LOG.open("a") as log:
        log.write(word + "\\n")


def made(scope):
    @pytest.fixture(scope=scope, autouse=scope in ("session", "function"), name=f"of_{scope}")
    def fixture(request):
        note(f"+{scope}")
        yield scope
        note(f"-{scope}")

    return fixture


of_session, of_package = made("session"), made("package")
of_module, of_class, of_function = made("module"), made("class"), made("function")
""",
    **{
        f"pack_{letter}/{name}": text
        for letter in "ab"
        for name, text in {
            "__init__.py": "",
            **{
                f"test_{letter}{number}.py": """
import pytest


class TestOne:
    def test_a(self, of_class, of_module, of_package, of_session):
        pass

    def test_b(self, of_class, of_module):
        assert of_class == "class"


class TestTwo:
    @pytest.mark.parametrize("n", range(3))
    def test_c(self, of_class, n):
        assert n != 1


def test_d(of_module, of_package):
    pass
"""
                for number in (1, 2)
            },
        }.items()
    },
}
