"""Workers of a local pool from one warm process. Rule: without it everything works, only later.

The other end is `worker/crew.py`, which forks. A worker is known by its process id; the crew
reaps, so an id means that worker until its end was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .core.children import die_with_parent

CREW_ENV = "DTF_CREW"
"""Set to 0: every worker is a process of its own, started anew."""


class Forked:
    """A worker that the crew forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._over = asyncio.Event()

    def ended(self, code: int) -> None:
        """It has ended with this exit status, negative for a signal."""
        self.returncode = code
        self._over.set()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    async def wait(self) -> int:
        await self._over.wait()
        assert self.returncode is not None
        return self.returncode

    def _signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Crew:
    """The warm process, its start and its end. Make it as early as possible."""

    def __init__(self, *, wanted: bool = True) -> None:
        """It starts, on Linux, if `wanted`; it needs no event loop yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[str, asyncio.Future[Forked | None]] = {}
        self._workers: dict[int, Forked] = {}
        self._text = b""
        self._reading = False
        if wanted and sys.platform == "linux" and os.environ.get(CREW_ENV) != "0":
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dtf.worker.crew"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )

    async def fork(
        self,
        name: str,
        options: Mapping[str, Any],
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> Forked | None:
        """The worker runs; None where there is no crew, or it died."""
        process = self._process
        if process is None or process.stdin is None:
            return None
        loop = asyncio.get_running_loop()
        if not self._reading and process.stdout is not None:
            self._reading = True
            os.set_blocking(process.stdout.fileno(), False)
            loop.add_reader(process.stdout.fileno(), self._read)
        log.parent.mkdir(parents=True, exist_ok=True)
        hire = {"name": name, "options": options, "env": env, "cwd": str(cwd), "log": str(log)}
        asked = self._asked[name] = loop.create_future()
        try:
            process.stdin.write(msgspec.json.encode(hire) + b"\n")
            process.stdin.flush()
        except OSError:
            return None
        return await asked

    def close(self) -> None:
        """The crew has ended, and with it whatever it forked. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._reading and process.stdout is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over
                asyncio.get_running_loop().remove_reader(process.stdout.fileno())
        process.kill()
        process.communicate()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            more = os.read(self._process.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        if not more:
            self._died()
            return
        *lines, self._text = (self._text + more).split(b"\n")
        for line in lines:
            self._take(msgspec.json.decode(line))

    def _take(self, fact: dict[str, Any]) -> None:
        if "name" in fact:
            worker = self._workers[fact["pid"]] = Forked(fact["pid"])
            asked = self._asked.pop(fact["name"], None)
            if asked is not None and not asked.done():
                asked.set_result(worker)
        elif fact["pid"] in self._workers:
            self._workers.pop(fact["pid"]).ended(fact["code"])

    def _died(self) -> None:
        """Its workers died with it; those still asked for are started otherwise."""
        self.close()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_result(None)
        self._asked.clear()
        for worker in self._workers.values():
            worker.ended(-signal.SIGKILL)
        self._workers.clear()


first: Crew | None = None
"""One that the program started before it read its arguments: the first pool takes it."""
