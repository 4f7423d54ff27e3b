"""Workers of a local pool, forked from one process that has imported everything they need.

Rule: it forks only while it has one thread and no loop; a worker it forked is like one that was
started by itself, and dies with it.

Importing costs a worker most of its start. Orders come in on standard input, one JSON object a
line: `{"name", "options", "env", "cwd", "log"}`; facts go out on standard output:
`{"name", "pid"}` when a worker runs, `{"pid", "code"}` when it has ended. At the end of input it
ends, and its workers are killed. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import sys
from typing import Any, NoReturn

import msgspec

PR_SET_PDEATHSIG = 1


class Hire(msgspec.Struct, frozen=True, kw_only=True):
    """One worker to fork. `env` replaces the environment; `log` takes its output."""

    name: str
    options: dict[str, Any]
    """Those of `WorkerOptions` that differ from their defaults."""
    env: dict[str, str]
    cwd: str
    log: str


_decode = msgspec.json.Decoder(Hire).decode


def main() -> None:
    """Fork workers as ordered until the end of input."""
    from ..core.adapters import blobs, jetstream, nats_client  # noqa: F401
    from . import process  # noqa: F401

    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    gc.collect()
    gc.freeze()  # what is imported is shared with the workers as long as nobody touches it
    text = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            _reap()
        if 0 in ready:
            more = os.read(0, 65536)
            if not more:
                return
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                hire = _decode(line)
                _tell({"name": hire.name, "pid": _fork(hire, (wake, woken))})


def _tell(fact: dict[str, Any]) -> None:
    os.write(1, msgspec.json.encode(fact) + b"\n")


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _tell({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _fork(hire: Hire, pipes: tuple[int, int]) -> int:
    crew = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for end in pipes:
            os.close(end)
        _become(hire, crew)
        code = _work(hire)
    finally:
        _leave(code)


def _become(hire: Hire, crew: int) -> None:
    """A process as `exec` would have made it: session, parent's death, place, streams."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != crew:
        os._exit(1)
    os.makedirs(hire.cwd, exist_ok=True)
    os.chdir(hire.cwd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(hire.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for given, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(given, standard)
    for given in {nothing, log}:
        os.close(given)
    os.environ.clear()
    os.environ.update(hire.env)
    sys.argv = ["dtf-worker", "run", "--name", hire.name]


def _work(hire: Hire) -> int:
    from ..core.errors import DtfError
    from .process import run_process, said

    try:
        return run_process({"worker": hire.name}, hire.options)
    except DtfError as error:
        return said(error)
    except Exception:
        logging.getLogger("dtf.worker").exception("the worker cannot go on")
        return 1


def _leave(code: int) -> NoReturn:
    with contextlib.suppress(Exception):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
