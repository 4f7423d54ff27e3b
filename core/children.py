"""Processes this one starts and answers for. Rule: none outlives its parent, however that one ends.

Each child leads a process group of its own, so a Ctrl-C at the terminal is for the parent to pass
on, and the whole group can be ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

PR_SET_PDEATHSIG = 1
Process = asyncio.subprocess.Process


class Child(Protocol):
    """A process that leads a group of its own, however it was started."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    async def wait(self) -> int: ...


async def spawn(argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Process:
    """The process runs in a group of its own, its output appended to `log`.

    On Linux it is killed when this process ends, whatever ends it.
    """
    for directory in (cwd, log.parent):
        os.makedirs(directory, exist_ok=True)
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *argv,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )


async def end(processes: Sequence[Child], soft_s: float, hard_s: float) -> None:
    """All have ended: asked (SIGTERM), asked again after `soft_s`, and `hard_s` later their whole
    groups are killed. With 0 for both they are killed at once.
    """
    living = [process for process in processes if process.returncode is None]
    for limit in (limit for limit in (soft_s, hard_s) if limit > 0):
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await _wait(living, limit)
        living = [process for process in living if process.returncode is None]
    for process in living:
        kill_group(process.pid, process)
        await process.wait()


async def _wait(processes: Sequence[Child], limit_s: float) -> None:
    """All have ended, or the time is up."""
    waits = [asyncio.ensure_future(process.wait()) for process in processes]
    if waits:
        await asyncio.wait(waits, timeout=limit_s)
        for wait in waits:
            wait.cancel()


def kill_group(pid: int, process: Child) -> None:
    """Nothing of the process's group lives any more."""
    if sys.platform == "win32":
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def die_with_parent() -> Callable[[], None] | None:
    """For the child, between fork and exec (Linux only)."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
