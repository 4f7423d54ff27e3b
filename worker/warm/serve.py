"""The warm program's loop. Rule: one frame after the other; a clone goes on in the same loop with a
socket of its own.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from .control import Control
from .leaving import leave
from .surroundings import enter, reseed, take_output, unforkable, usage_since, usage_start
from .work import Work

TYPE_CHECKING = False  # importing typing takes 4 ms
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Program:
    """A warm process: parent, suite or host, as it is told."""

    def __init__(self, control: int) -> None:
        self.control = Control(control)
        self.work = Work()
        self.pid = os.getpid()
        self.variables: list[str] = []
        """Names of those the last order has set."""
        self._frozen = False

    def serve(self) -> NoReturn:
        """Never returns: the process ends when it is told to, or with the supervisor."""
        self.hello()
        while True:
            frame = self.control.next()
            if frame is None:
                os._exit(0)
            self.obey(frame)

    def obey(self, frame: tuple[Any, ...]) -> None:
        kind = frame[0]
        if kind == "run":
            self.run(frame[1], frame[2])
        elif kind == "fork":
            self.fork(frame[1])
        elif kind == "prepare":
            self.prepare(frame[1])
        elif kind == "warm":
            began = time.monotonic()
            problem = self.work.warm(frame[1])
            self._frozen = False
            self.control.tell("warmed", time.monotonic() - began, problem[-4000:])
        elif kind == "exit":
            self.work.close()
            leave(0)

    def prepare(self, payload: dict[str, Any]) -> None:
        began = time.monotonic()
        problem = self.work.prepare(payload)
        self._frozen = False
        facts = {
            "pid": self.pid,
            "threads": len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0,
            "seconds": time.monotonic() - began,
            "problem": problem[-4000:],
        }
        self.control.tell("ready", facts)

    # -- forking ----------------------------------------------------------------------------------
    def fork(self, serials: list[int]) -> None:
        """Clones serve the descriptors that came with the frame, or this process does."""
        fds = self.control.take(2 * len(serials))
        ends = list(zip(fds[::2], fds[1::2], strict=True))
        reason = unforkable() or self.work.forbids_clones()
        if reason:
            self.control.tell("became", serials[0], reason)
            for fd in fds[2:]:
                os.close(fd)
            self.become(*ends[0])
            return
        self._settle()
        try:
            number = fork_twice(len(serials))
        except OSError as error:
            self.control.tell("failed", serials, str(error))
            number = -1
        for place, pair in enumerate(ends):
            if place != number:
                os.close(pair[0])
                os.close(pair[1])
        if number >= 0:
            os.setsid()
            self.pid = os.getpid()
            reseed()
            self.become(*ends[number])

    def _settle(self) -> None:
        """Clones will find nothing that was half written, and share all there is."""
        if not self._frozen:  # the collector then leaves shared pages alone
            gc.collect()
            gc.freeze()
            self._frozen = True
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()

    def become(self, control: int, output: int) -> None:
        """This process is the child that serves these descriptors."""
        self.control.close()
        take_output(output)
        self.control = Control(control)
        self.hello()

    def hello(self) -> None:
        """The other end knows us; an end that has given us up ends this process."""
        if not self.control.tell("hello", self.pid, time.monotonic_ns()):
            os._exit(0)

    # -- running ----------------------------------------------------------------------------------
    def run(self, key: int, order: dict[str, Any]) -> None:
        self.variables = enter(order, self.variables)
        began = None if order["once"] else usage_start()
        status = self.work.run(order)
        if os.getpid() != self.pid:  # a process that the test forked has come back
            leave(status)
        if began is None:
            self.work.close()
            leave(status)
        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError, AttributeError):  # the test closed or replaced it
                continue
        self.control.tell("end", key, status & 255, usage_since(began))


def fork_twice(count: int) -> int:
    """The number of this clone, below `count`, a child of whoever adopts orphans; -1 in the process
    that was forked. Raises OSError; some of the clones may exist then.
    """
    first = os.fork()
    if first == 0:
        try:
            for number in range(count):
                if os.fork() == 0:
                    return number
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(first, 0)
    problem = os.waitstatus_to_exitcode(status)
    if problem:
        raise OSError(problem, os.strerror(problem) if problem > 0 else "the fork was killed")
    return -1
