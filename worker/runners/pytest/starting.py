"""A configured pytest session without a terminal. Rule: config, plugins, conftests and session
start as plain pytest does them; only what writes for the user belongs to the client and is off.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import _pytest.main
import pytest
from _pytest.config import ConftestImportFailure, UsageError, _prepareconfig

from .recorder import Recorder

NOT_HERE: dict[str, Any] = {
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "cacheclear": False,
    "stepwise": False,
    "stepwise_skip": False,
    "stepwise_reset": False,
    "xmlpath": None,
    "pastebin": None,
    "usepdb": False,
    "trace": False,
    "durations": None,
    "report_log": None,
    "htmlpath": None,
    "numprocesses": None,
    "maxprocesses": None,
    "dist": "no",
    "distload": False,
    "looponfail": False,
    "tx": [],
}
"""Options the client itself acts on; a host has to behave as if they were not given."""
CACHE_WRITERS = ("lfplugin", "nfplugin", "stepwiseplugin")


class CannotStart(Exception):
    """The suite cannot be set up here; the text is for its author, `exit_code` is pytest's."""

    def __init__(self, message: str, exit_code: int = 4) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Nowhere(io.TextIOBase):
    """Takes what a terminal reporter writes."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def isatty(self) -> bool:
        return False


def start(args: list[str], recorder: Recorder) -> tuple[Any, Any]:
    """The config and the started session for these command line words.

    Raises CannotStart for whatever ends plain pytest before it collects.
    """
    os.environ["PYTEST_VERSION"] = pytest.__version__
    try:
        config = _prepareconfig(list(args), [recorder])
    except ConftestImportFailure as error:
        raise CannotStart(_conftest_failed(error)) from error
    except UsageError as error:
        raise CannotStart("; ".join(str(arg) for arg in error.args)) from error
    except SystemExit as error:  # argparse, after --help or an unknown option
        raise CannotStart(f"pytest ended while it read its options: {error.code}") from error
    except pytest.exit.Exception as error:
        code = error.returncode if error.returncode is not None else 2
        raise CannotStart(f"pytest.exit: {error.msg}", code) from error
    except Exception as error:
        raise CannotStart(f"{type(error).__name__}: {error}", 3) from error
    for name, value in NOT_HERE.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)
    try:
        return config, _started(config, recorder)
    except CannotStart:
        config._ensure_unconfigure()
        raise
    except UsageError as error:
        config._ensure_unconfigure()
        raise CannotStart("; ".join(str(arg) for arg in error.args)) from error
    except pytest.exit.Exception as error:
        config._ensure_unconfigure()
        code = error.returncode if error.returncode is not None else 2
        raise CannotStart(f"pytest.exit: {error.msg}", code) from error
    except Exception as error:
        text = f"the session did not start: {type(error).__name__}: {error}"
        config._ensure_unconfigure()
        raise CannotStart(text, 3) from error


def _conftest_failed(error: ConftestImportFailure) -> str:
    cause = error.cause
    text = f"ImportError while loading conftest {str(error.path)!r}: "
    text += f"{type(cause).__name__}: {cause}"
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        text += f"; install {cause.name.partition('.')[0]!r} into {sys.executable}"
    return text


def _started(config: Any, recorder: Recorder) -> Any:
    """Runs `pytest_cmdline_main`, because plugins prepare themselves in it, up to where pytest's
    own one would collect.
    """
    begun: list[Any] = []

    def begin(config: Any, doit: Any) -> int:
        session = pytest.Session.from_config(config)
        session.exitstatus = pytest.ExitCode.OK
        begun.append(session)
        config._do_configure()
        _silence(config)
        recorder.count_subtests()
        config.hook.pytest_sessionstart(session=session)
        return 0

    real = _pytest.main.wrap_session
    _pytest.main.wrap_session = begin
    try:
        config.hook.pytest_cmdline_main(config=config)
    finally:
        _pytest.main.wrap_session = real
    if not begun:
        raise CannotStart("these options ask pytest for something else than running tests")
    return begun[0]


def _silence(config: Any) -> None:
    """The terminal reporter can be found under its name, and writes and hears nothing."""
    manager = config.pluginmanager
    for name in CACHE_WRITERS:
        if manager.hasplugin(name):
            manager.unregister(name=name)
    old = manager.get_plugin("terminalreporter")
    if old is None:
        return
    from _pytest.terminal import TerminalReporter

    deaf = {name: None for name in dir(TerminalReporter) if name.startswith("pytest_")}
    quiet: Any = type("QuietReporter", (TerminalReporter,), deaf)(config, Nowhere())
    old._tw = quiet._tw  # log handlers and plugins may hold on to the one before
    manager.unregister(name="terminalreporter")
    manager.register(quiet, "terminalreporter")


def keep_to_one(config: Any) -> str:
    """Why clones of this session must not live beside each other; "" when they may.

    A conftest that tidies up when its session ends would do so under the feet of the others.
    """
    conftests = getattr(config.pluginmanager, "_conftest_plugins", ())
    for module in conftests:
        for hook in ("pytest_sessionfinish", "pytest_unconfigure"):
            if hasattr(module, hook):
                return f"{getattr(module, '__file__', module)} has {hook}"
    return ""


def command_line(payload: dict[str, Any]) -> list[str]:
    """The words for pytest: options, then the paths it was invoked with (they decide which
    conftests load first).
    """
    args = [str(word) for word in payload.get("args") or []]
    if payload.get("rootdir"):
        args.append(f"--rootdir={payload['rootdir']}")
    if payload.get("inifile"):
        args += ["-c", str(payload["inifile"])]
    paths = payload.get("paths")
    if paths is None:
        base = Path(payload.get("rootdir") or ".")
        paths = [str(base / path) for path in payload.get("files") or []]
        paths = [path for path in paths if os.path.exists(path)][:100]
    return [*args, *(str(path) for path in paths)]
