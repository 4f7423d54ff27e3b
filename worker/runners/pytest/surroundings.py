"""Standard streams and environment of a host that serves several shards. Rule: a shard starts on
the streams it was given, and finds what earlier ones and the conftests set in the environment.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from pathlib import Path
from typing import Any


class Streams:
    """pytest's capture in this process. Tests may close or replace whatever it works with: nothing
    is used or closed again that is not known to be ours still.
    """

    def __init__(self) -> None:
        self._python = (sys.stdin, sys.stdout, sys.stderr)
        self._ours: dict[int, tuple[int, int]] = {}
        self._kept: list[Any] = []

    def renew(self, config: Any) -> None:
        """pytest captures on files of its own, and gives back the streams that are open now.

        A clone would share the temporary files, the place in them, and the saved descriptors of
        its parent.
        """
        given = _copies()
        capture = config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            old, capture._global_capturing = capture._global_capturing, None
            for part in () if old is None else (old.out, old.err, old.in_):
                self._end(part)
        for fd, copy in given.items():
            os.dup2(copy, fd)
            os.close(copy)
        self._reopen()
        if capture is not None:
            capture._capture_fixture = None
            capture.start_global_capturing()
            capture.suspend_global_capture()
        self._renew_faulthandler(config)
        self.remember(config)

    def remember(self, config: Any) -> None:
        """The descriptors that pytest has open now are ours."""
        self._ours = {}
        capture = config.pluginmanager.get_plugin("capturemanager")
        new = getattr(capture, "_global_capturing", None)
        for part in () if new is None else (new.out, new.err, new.in_):
            for fd in _descriptors(part):
                self._ours[fd] = _identity(fd)
        crash = _crash_descriptor(config)
        if crash is not None:
            self._ours[crash] = _identity(crash)

    def _is_ours(self, fd: int) -> bool:
        return self._ours.get(fd, (0, 0)) == _identity(fd)

    def _end(self, part: Any) -> None:
        """One captured stream is given up; it closes only what is still its own."""
        if part is None:
            return
        if all(map(self._is_ours, _descriptors(part))):
            with contextlib.suppress(Exception):  # a test may have closed a part of it
                part.done()
                return
        self._kept.append(part)  # else its files would close descriptors of somebody else

    def _reopen(self) -> None:
        sys.stdin, sys.stdout, sys.stderr = self._python
        for name, fd in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            if stream is None or getattr(stream, "closed", False):
                with contextlib.suppress(OSError):
                    os.fstat(fd)
                    new = open(  # noqa: SIM115  # lives as long as the process
                        fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False
                    )
                    setattr(sys, name, new)
        self._python = (sys.stdin, sys.stdout, sys.stderr)

    def _renew_faulthandler(self, config: Any) -> None:
        """Stacks of a crash go to the stderr of this run, not to the one the parent had."""
        fd = _crash_descriptor(config)
        if fd is None:
            return
        with contextlib.suppress(OSError):
            if self._is_ours(fd):
                os.dup2(2, fd, inheritable=False)
                return
            from _pytest.faulthandler import fault_handler_stderr_fd_key

            fd = config.stash[fault_handler_stderr_fd_key] = os.dup(2)
            faulthandler.enable(file=fd)


def _descriptors(part: Any) -> list[int]:
    """What a capture has open: its temporary file and its copy of the stream."""
    found = []
    if part is not None:
        with contextlib.suppress(Exception):
            found.append(part.tmpfile.fileno())
        save = getattr(part, "targetfd_save", None)
        found.extend([] if save is None else [save])
    return found


def _identity(fd: int) -> tuple[int, int]:
    try:
        status = os.fstat(fd)
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def _crash_descriptor(config: Any) -> int | None:
    try:
        from _pytest.faulthandler import fault_handler_stderr_fd_key
    except ImportError:
        return None
    return config.stash.get(fault_handler_stderr_fd_key, None)  # type: ignore[no-any-return]


def _copies() -> dict[int, int]:
    copies = {}
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            copies[fd] = os.dup(fd)
    return copies


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
