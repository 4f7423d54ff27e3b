"""Standard streams and environment of a host that serves several shards. Rule: a shard starts on
the streams it was given, and finds what earlier ones and the conftests set in the environment.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any


def renew_capture(config: Any) -> None:
    """pytest captures on files of its own and gives back the streams that are open now.

    A clone would share the temporary files, the place in them, and the saved descriptors of its
    parent.
    """
    _reopen_streams()
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        return
    kept = _copies()
    old, capture._global_capturing = capture._global_capturing, None
    for part in () if old is None else (old.out, old.err, old.in_):
        if part is not None:
            with contextlib.suppress(Exception):  # a test may have closed any part of it
                part.done()
    for fd, copy in kept.items():
        os.dup2(copy, fd)
        os.close(copy)
    _reopen_streams()
    capture._capture_fixture = None
    capture.start_global_capturing()
    capture.suspend_global_capture()
    _renew_faulthandler(config)


def _copies() -> dict[int, int]:
    copies = {}
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            copies[fd] = os.dup(fd)
    return copies


def _reopen_streams() -> None:
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            with contextlib.suppress(OSError):
                new = open(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
                setattr(sys, name, new)


def _renew_faulthandler(config: Any) -> None:
    """Stacks of a crash go to the stderr of this run, not to the one the parent had."""
    try:
        from _pytest.faulthandler import fault_handler_stderr_fd_key
    except ImportError:
        return
    fd = config.stash.get(fault_handler_stderr_fd_key, None)
    if fd is not None:
        with contextlib.suppress(OSError):
            os.dup2(2, fd, inheritable=False)


def flush_streams() -> None:
    """What was printed past the capture is in the output now."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or replaced by anything
            stream.flush()


class Environment:
    """What the code of the suite changed in `os.environ`, whatever environment it is given next."""

    def __init__(self) -> None:
        self._given = dict(os.environ)
        self._changes: dict[str, str | None] = {}

    def remember(self) -> None:
        """What differs from the given environment was the suite's doing."""
        now = os.environ
        names = [*self._given.keys(), *now.keys()]
        for name in names:
            if name.startswith("DTF_") or name == "PYTEST_CURRENT_TEST":
                continue
            value = now.get(name)
            if value != self._given.get(name):
                self._changes[name] = value
        for name in [name for name, value in self._changes.items() if now.get(name) != value]:
            del self._changes[name]  # taken back since

    def apply(self) -> None:
        """The environment of now, as given by the host, with the suite's changes on top."""
        self._given = dict(os.environ)
        for name, value in self._changes.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        os.environ["DTF_PYTEST_HOST"] = "1"


def own_basetemp(config: Any, host: str) -> None:
    """`tmp_path` of this process cannot meet that of another one of the same run."""
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is None:
        return
    name = "dtf-" + "".join(c if c.isalnum() or c in "-_" else "_" for c in host)[:60]
    name += f"-{os.getpid()}"
    made = getattr(factory, "_basetemp", None)
    given = getattr(factory, "_given_basetemp", None)
    if made is not None:  # the parent had one already
        mine = Path(made) / name
        mine.mkdir(mode=0o700, exist_ok=True)
        factory._basetemp = mine
    elif given is not None:
        given.mkdir(mode=0o700, parents=True, exist_ok=True)
        factory._given_basetemp = given / name
