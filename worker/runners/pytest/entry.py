"""What a host calls: prepare once, then warm, run and close. Rule: nothing but the interpreter's
death comes out of here; what went wrong is in the report file.

The host process applies streams, environment and folder before each call.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import pytest
from _pytest.config import UsageError

from .host import Host
from .shard import Shard, where_interrupted
from .starting import CannotStart, command_line, keep_to_one, start
from .wire import encode, first_line
from .writing import ReportFile


def prepare(payload: dict[str, Any]) -> Host:
    """A started session, with the wanted files collected; its `problem` says why there is none.

    payload: {"args": [...], "directory": folder, "files": [paths below rootdir, collected now],
    "rootdir"?: folder, "inifile"?: path, "paths"?: [what pytest was invoked with],
    "sys_path"?: [folders before all others, for `python -m pytest`]}.
    """
    host = Host()
    os.environ["DTF_PYTEST_HOST"] = "1"
    try:
        if payload.get("directory"):
            os.chdir(payload["directory"])
        host.directory = os.getcwd()
        sys.path[:0] = [p for p in payload.get("sys_path") or [] if p not in sys.path]
        words = command_line(payload)
        sys.argv = ["pytest", *words]
        host.started(*start(words, host.recorder))
    except (CannotStart, OSError) as error:
        host.problem = str(error)
        host.exit_code = getattr(error, "exit_code", 4)
    host.environment.remember()
    files = [str(path) for path in payload.get("files") or []]
    if files and not host.problem:
        warm(host, files)
    else:
        gc.freeze()
    return host


def warm(state: Host, files: list[str]) -> None:
    """The files are collected, except those that raise what would end pytest: a run of theirs
    meets that again and reports it.
    """
    if state.problem:
        return
    state.wake("")
    state.expect(None)
    for path in files:
        try:
            state.collection.get([(path, False)])
        except (KeyboardInterrupt, SystemExit, pytest.exit.Exception, UsageError):
            continue
        except Exception:  # noqa: S112  # the boundary of a plugin's or conftest's code
            continue
    state.environment.remember()
    gc.freeze()  # clones do not copy the pages of what the collector would otherwise touch


def forbids_clones(state: Host) -> str:
    """Why this session must not be cloned for several hosts; "" when it may."""
    return "" if state.config is None else keep_to_one(state.config)


def run(state: Host, work: dict[str, Any], order: dict[str, Any]) -> int:
    """The shard has run and its lines are in the file DTF_REPORT; the exit code of its pytest.

    `work` has the parameters of the task, "args" and "isolation", "host"?, "timeout_s"?; or is
    {"close": host}: everything still set up is torn down.
    """
    report = ReportFile(os.environ.get("DTF_REPORT") or "")
    name = str(work.get("host") or work.get("close") or order.get("host") or os.getpid())
    state.wake(name)
    if state.problem:
        return _end(report, "config", state.problem, state.exit_code, None)
    shard = Shard(state, work, report)
    try:
        state.expect(work.get("stop_after"))
        return _guarded(state, shard, work)
    finally:
        state.environment.remember()
        report.close()


def _guarded(state: Host, shard: Shard, work: dict[str, Any]) -> int:
    report = shard.report
    try:
        if "close" in work:
            shard.tear_down(None)
            stop = ""
        else:
            stop = shard.run()
    except (KeyboardInterrupt, pytest.exit.Exception) as error:
        return _interrupted(state, shard, error)
    except UsageError as error:
        shard.flush()
        text = "; ".join(str(arg) for arg in error.args)
        return _end(report, "config", text, 4, shard.results())
    except state.session.Failed as error:
        stop = str(error)
        shard.tear_down(None)
    except BaseException as error:  # INTERNALERROR in plain pytest: a hook raised
        return _broken(state, shard, error)
    if stop:
        shard.value["stopped"] = stop
    code = 1 if state.session.testsfailed else 0
    return _end(report, "returned", stop, code, shard.results())


def _interrupted(state: Host, shard: Shard, error: BaseException) -> int:
    shard.flush()
    code = getattr(error, "returncode", None)
    message = where_interrupted(error)
    excinfo = pytest.ExceptionInfo.from_exception(error)
    _quietly(lambda: state.config.hook.pytest_keyboard_interrupt(excinfo=excinfo))
    _quietly(lambda: state.session._setupstate.teardown_exact(None))
    return _end(
        shard.report, "interrupted", message, 2 if code is None else int(code), shard.results()
    )


def _broken(state: Host, shard: Shard, error: BaseException) -> int:
    shard.flush()
    excinfo = pytest.ExceptionInfo.from_exception(error)
    _quietly(lambda: state.config.notify_exception(excinfo, state.config.option))
    _quietly(lambda: state.session._setupstate.teardown_exact(None))
    message = f"INTERNALERROR: {type(error).__name__}: {first_line(str(error))}"
    return _end(shard.report, "raised", message, 3, shard.results())


def _quietly(act: Any) -> None:
    """What fails after the fact is printed, and changes nothing any more."""
    try:
        act()
    except BaseException as error:  # hooks and finalizers of the suite
        print(f"dtf: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201


def _end(report: ReportFile, status: str, message: str, code: int, value: Any) -> int:
    end: dict[str, Any] = {"status": status, "message": message[:4000], "exit_code": code}
    if value is not None:
        end["value"] = value
    report.write(encode({"end": end}))
    return code


def close(state: Host) -> None:
    """The session is over: torn down, finished, unconfigured. The process ends after this."""
    if state.config is None:
        return
    state.wake("")
    session, config = state.session, state.config
    _quietly(lambda: session._setupstate.teardown_exact(None))
    _quietly(
        lambda: config.hook.pytest_sessionfinish(
            session=session, exitstatus=int(bool(session.testsfailed))
        )
    )
    _quietly(config._ensure_unconfigure)
