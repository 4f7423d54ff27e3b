"""The time limit of a case. Rule: no signal is used; a case that holds the interpreter is ended by
faulthandler's own thread two seconds later.
"""

from __future__ import annotations

import _thread
import contextlib
import faulthandler
import os
import time
from collections.abc import Callable

STATUS = 77
"""Exit status of a process that cut a case at its limit, after it had reported so."""
GRACE_S = 2.0
_IDLE_S = 3600.0


class Watchdog:
    """Calls `expired(limit_s)` in a thread of its own when the case of now runs too long; the
    process ends with STATUS when the call returns or raises.
    """

    def __init__(self, stderr: int, expired: Callable[[float], None], hard: bool) -> None:
        self._stderr = stderr
        self._expired = expired
        self._hard = hard
        self._pid = 0
        self._deadline: float | None = None
        self._limit_s = 0.0
        self._waits_until = 0.0
        self._firing = False
        self._gate = _thread.allocate_lock()

    def arm(self, limit_s: float) -> None:
        """The case that starts now may take this long."""
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        if self._hard:
            faulthandler.dump_traceback_later(limit_s + GRACE_S, file=self._stderr, exit=True)
        if self._pid != os.getpid():  # the first case, or we are a clone: threads are not inherited
            self._pid = os.getpid()
            self._gate = _thread.allocate_lock()
            self._gate.acquire()
            # Not `threading`: tests count the threads that it knows.
            _thread.start_new_thread(self._watch, (self._gate,))
        elif self._deadline < self._waits_until:
            with contextlib.suppress(RuntimeError):
                self._gate.release()

    def disarm(self) -> None:
        """The case is over; does not return when its time was up already."""
        self._deadline = None
        if self._hard:
            faulthandler.cancel_dump_traceback_later()
        while self._firing:
            time.sleep(1)

    def _watch(self, gate: _thread.LockType) -> None:
        while True:
            deadline = self._deadline
            now = time.monotonic()
            if deadline is not None and deadline <= now:
                self._firing = True
                if self._deadline == deadline:
                    self._end()
                self._firing = False
                continue
            wait = _IDLE_S if deadline is None else deadline - now
            self._waits_until = now + wait
            gate.acquire(timeout=min(wait, _IDLE_S))

    def _end(self) -> None:
        try:
            with contextlib.suppress(Exception):  # the descriptor may be closed
                faulthandler.dump_traceback(file=self._stderr, all_threads=True)
            self._expired(self._limit_s)
        finally:
            os._exit(STATUS)
