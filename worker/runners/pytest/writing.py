"""The report file of a run. Rule: a test that closes descriptors, forks or changes its environment
cannot lose, double or redirect a line.
"""

from __future__ import annotations

import contextlib
import os

_HIGH = 700
"""Descriptors from here on: tests that close "all" files rarely reach so far."""


def high_copy(fd: int) -> int:
    """A copy of a descriptor out of the way of tests. Raises OSError when `fd` is not open."""
    try:
        import fcntl

        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except (ImportError, OSError):
        return os.dup(fd)


class ReportFile:
    """Appends to the file at `path`; each `write` is one system call. `path` "" writes nowhere."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._identity = (0, 0)
        if path:
            self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        low = os.open(self.path, flags, 0o600)
        try:
            self._fd = high_copy(low)
        finally:
            os.close(low)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def write(self, data: bytes) -> None:
        """The lines are in the file, also when a test has closed our descriptor."""
        if not self.path or not data:
            return
        try:
            status = os.fstat(self._fd)
            ours = (status.st_dev, status.st_ino) == self._identity
        except OSError:
            ours = False
        if not ours:  # closed, and perhaps somebody else's by now: leave that one alone
            self._open()
        done = os.write(self._fd, data)
        while done < len(data):
            done += os.write(self._fd, data[done:])

    def close(self) -> None:
        if self.path and self._fd >= 0:
            with contextlib.suppress(OSError):
                status = os.fstat(self._fd)
                if (status.st_dev, status.st_ino) == self._identity:
                    os.close(self._fd)
        self._fd = -1
        self.path = ""
