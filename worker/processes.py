"""The agent's end of the process supervisor. Rule: orders go out, facts come in; nothing here
waits for a process.

The supervisor (`supervising/`) is started once and outlives no agent. Should it die itself, its
processes become children of the agent, which kills them, tells every attempt so, and starts
another.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from .supervising import start
from .supervising.table import below, kill_quietly, process_table

log = logging.getLogger("dtf.worker")
PR_SET_CHILD_SUBREAPER = 36
CLOSE_S = 10.0
RESTART_S = 0.2
NO_SUPERVISOR = "the process supervisor of the worker died"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one attempt's first process. Limits are enforced by the supervisor's monotonic
    clock.
    """

    slot: int
    """Orders of one slot run one after the other."""
    argv: list[str]
    env: dict[str, str]
    """Added to the agent's own environment, less everything that starts with DTF_."""
    marker: str
    """Must end in ".<key>"; finds processes that left the group."""
    cwd: str
    scratch: str
    """An empty directory with mode 0700."""
    output_path: str
    """Written only when the output exceeds 4 KiB."""
    output_max: int
    wall_ns: int
    silence_ns: int = 0
    grace_ns: int
    memory_bytes: int = 0
    """Limit of the tree's memory; 0 is none."""
    warm: dict[str, Any] | None = None
    """Run it in a warm process: {"chain": links (`warm/chain.py`), "host": id, "" for a process of
    its own, "work": what to do, "start": "auto", "fork" or "spawn"}. `argv` is then the plain way,
    where there is no warm process; without an `argv` the last of the chain is started anew."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """How the first process of an attempt ended, after everything else of it was gone."""

    code: int
    """Exit status; negative: the signal."""
    why: str = ""
    """"" by itself; else what ended it: wall, silence, memory, killed, oom."""
    duration_us: int
    cpu_us: int
    peak_rss: int
    """Bytes; 0 when the platform could not tell."""
    output_bytes: int
    stored: int
    """Bytes in the output file; 0 when there is none and `head` is the whole output."""
    store_error: str = ""
    head: bytes = b""
    tail: bytes = b""
    left: int = 0
    """Processes that outlived the first one and were killed."""
    alive: int = 0
    """Processes that could not be killed."""
    scratch_left: bool = False
    """The scratch directory holds something, or is no longer what it was."""
    start: str = ""
    """How a process with warm parents came to be: fork, became (the parent itself, see `note`),
    host (it had served others before) or spawn; "" for orders that are not warm."""
    note: str = ""
    """Why it did not begin as it was asked to; "" when it did."""


class Listener:
    """Who is told about one attempt. Called from the event loop."""

    def on_started(self, pid: int) -> None: ...

    def on_output(self, data: bytes, dropped: int) -> None: ...

    def on_done(self, facts: Facts) -> None: ...

    def on_refused(self, stage: str, text: str) -> None: ...

    def on_returned(self) -> None: ...


class Processes:
    """The supervisor, as the agent sees it. `start` once, `close` at the end; both inside the
    loop.
    """

    def __init__(self, on_broken: Callable[[], None] = lambda: None) -> None:
        self.listeners: dict[int, Listener] = {}
        self._on_broken = on_broken
        self._popen: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._loop = asyncio.get_running_loop()
        self._empty: list[asyncio.Future[None]] = []
        self._closing = False
        self._flushing: asyncio.Handle | None = None
        """All orders of one tick of the loop travel together."""
        self._restart: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The supervisor's process id."""
        return self._popen.pid if self._popen else None

    def start(self) -> None:
        """A supervisor runs."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            self._popen = subprocess.Popen(
                start.command(theirs.fileno(), os.getpid()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket = ours
        self._loop.add_reader(ours, self._readable)

    def run(self, key: int, order: Order, listener: Listener) -> None:
        """The attempt's process is on its way; `listener` hears of its end exactly once (done,
        refused or returned).
        """
        if self._socket is None:
            self._loop.call_soon(listener.on_refused, "supervisor", NO_SUPERVISOR)
            return
        self.listeners[key] = listener
        self._send(("start", key, msgspec.structs.asdict(order)))

    def kill(self, key: int, *, soft: bool) -> None:
        """Ends the attempt: softly with its own grace, or at once. Unknown or ended: no effect."""
        if key in self.listeners:
            self._send(("kill", key, soft))

    def drop(self, key: int) -> None:
        """Takes the attempt out of its slot's line; if its process runs already: no effect."""
        if key in self.listeners:
            self._send(("drop", key))

    async def gone(self) -> None:
        """No attempt runs any more."""
        if self.listeners:
            future: asyncio.Future[None] = self._loop.create_future()
            self._empty.append(future)
            await future

    async def close(self) -> None:
        """The supervisor and everything below it are gone. Idempotent."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        if self._socket is not None:
            self._disconnect()
        popen, self._popen = self._popen, None
        if popen is not None:
            try:
                await asyncio.to_thread(popen.wait, CLOSE_S)
            except subprocess.TimeoutExpired:
                popen.kill()
                await asyncio.to_thread(popen.wait)

    # -- the socket -------------------------------------------------------------------------------
    def _send(self, frame: tuple[object, ...]) -> None:
        if self._socket is None:
            return
        data = marshal.dumps(frame)  # type: ignore[arg-type]
        self._outbox += len(data).to_bytes(4, "little") + data
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        if self._socket is None:
            return
        try:
            while self._outbox:
                del self._outbox[: self._socket.send(self._outbox)]
            self._loop.remove_writer(self._socket)
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
        except OSError:  # it died; the reader sees the end of the stream
            self._outbox.clear()
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._broken()
            return
        inbox = self._inbox
        inbox += data
        while len(inbox) >= 4:
            end = 4 + int.from_bytes(inbox[:4], "little")
            if len(inbox) < end:
                break
            frame = marshal.loads(inbox[4:end])  # noqa: S302 (written by our own supervisor)
            del inbox[:end]
            self._take(frame)

    def _take(self, frame: tuple[Any, ...]) -> None:
        kind, key = frame[0], frame[1]
        if kind == "warned":
            log.warning("%s", frame[2])
        elif kind == "started":
            self.listeners[key].on_started(frame[2])
        elif kind == "output":
            self.listeners[key].on_output(frame[2], frame[3])
        else:
            listener = self.listeners.pop(key)
            if kind == "done":
                listener.on_done(Facts(**frame[2]))
            elif kind == "returned":
                listener.on_returned()
            else:
                listener.on_refused(frame[2], frame[3])
            self._tell_empty()

    def _tell_empty(self) -> None:
        if not self.listeners:
            waiting, self._empty = self._empty, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _disconnect(self) -> None:
        assert self._socket is not None
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        self._inbox.clear()
        self._outbox.clear()

    def _broken(self) -> None:
        """The supervisor died by itself: what it ran is now below us, and dies too; another one
        starts.
        """
        self._disconnect()
        if self._popen is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(1)
        kill_orphans()
        lost, self.listeners = self.listeners, {}
        if not self._closing:
            self._restart = self._loop.call_later(RESTART_S, self.start)
        for listener in lost.values():
            listener.on_refused("supervisor", NO_SUPERVISOR)
        self._tell_empty()
        self._on_broken()


def kill_orphans() -> None:
    """Processes that became ours when the supervisor died are killed and collected."""
    me, session = os.getpid(), os.getsid(0)
    for _ in range(50):
        table = process_table()
        orphans = {p.pid for p in table.values() if p.parent == me and p.session != session}
        if not orphans:
            return
        for pid in below(table, orphans):
            kill_quietly(pid, signal.SIGKILL)
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
