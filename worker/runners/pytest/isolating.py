"""Isolation `case`: a clone of the prepared process for each case. Rule: a clone reports its case
itself; what died without a report is run once more, and then told by its parent.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from .cases import CaseKey, place_of
from .surroundings import flush_streams
from .watchdog import STATUS
from .wire import encode, first_line

if TYPE_CHECKING:
    from .shard import Shard

_TOLD_BYTES = 16384
"""More than a message of MESSAGE_CHARS_MAX can have in JSON."""


def can_clone() -> bool:
    """Whether this process can be forked safely: nobody else runs in it."""
    if not hasattr(os, "fork"):
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return threading.active_count() == 1


def run_in_clone(shard: Shard, key: CaseKey) -> None:
    """The case has run in a process of its own and its line is written.

    Raises KeyboardInterrupt or pytest.exit when the case did.
    """
    for tries in (1, 2):
        told, status = _attempt(shard, key, tries)
        if told is not None:
            kind, message, code = told
            shard.session.testsfailed += kind == "failed"
            if kind == "exit":
                pytest.exit(message, code if code >= 0 else None)
            if kind == "interrupted":
                raise KeyboardInterrupt(message)
            return
        if status == STATUS:  # cut at its limit; its watchdog has reported it
            shard.session.testsfailed += 1
            return
    shard.session.testsfailed += 1
    message = f"the interpreter {_death(status)} while it ran"
    detail = {"t": [None, None, None]} | place_of(key.item.nodeid, key.item.location)
    case = {"id": key.id, "verdict": "failed", "message": message, "tries": 2, "detail": detail}
    shard.report.write(encode({"case": case}))


def _attempt(shard: Shard, key: CaseKey, tries: int) -> tuple[tuple[str, str, int] | None, int]:
    """What the clone told (None: it died before) and its exit status, negative for a signal."""
    flush_streams()
    # Shared memory, not a pipe: what the test leaves running would keep a pipe open.
    with mmap.mmap(-1, _TOLD_BYTES) as memory:
        pid = os.fork()
        if pid == 0:
            _clone(shard, key, tries, memory)
        status = 0
        with contextlib.suppress(ChildProcessError):
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        data = memory[:].rstrip(b"\0")
    return (json.loads(data) if data else None), status


def _clone(shard: Shard, key: CaseKey, tries: int, memory: mmap.mmap) -> None:
    """Runs the case and ends the process."""
    told: tuple[str, str, int] | None = None
    try:
        shard.recorder.pid = os.getpid()
        try:
            ran = shard.run_case(key, None)
            line, verdict = shard.line_of(ran, tries)
            shard.report.write(line)
            told = ("failed" if verdict in ("failed", "error") else "done", "", 0)
        except pytest.exit.Exception as error:
            code = error.returncode if error.returncode is not None else -1
            told = ("exit", first_line(str(error.msg)), code)
        except KeyboardInterrupt as error:
            told = ("interrupted", first_line(str(error)) or "KeyboardInterrupt", 2)
        flush_streams()
        data = json.dumps(told).encode()
        memory[: len(data)] = data
    finally:
        os._exit(0 if told is not None else 1)


def _death(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    name: Any = -status
    with contextlib.suppress(ValueError):
        name = signal.Signals(-status).name
    return f"died ({name})"
