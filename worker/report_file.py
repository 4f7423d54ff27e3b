"""The file a task reports into, read while it grows. Rule: only a plain file is read, and at most
what is new.
"""

from __future__ import annotations

import os

from .runners.report import Report

READ_BYTES = 1 << 20
FOLLOW = os.access not in os.supports_follow_symlinks
"""A link counts as something that lies there, where the system can tell."""
TOTAL_BYTES_MAX = 32 * READ_BYTES
"""Most of a report that is read at all; the rest is marked as truncated."""


class ReportFile:
    """The report of one attempt; `report` holds what was read."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.report = Report()
        self.odd = False
        """Something lies there that is no file."""
        self._fd: int | None = None
        self._read = 0

    def read(self, bytes_max: int = TOTAL_BYTES_MAX) -> bool:
        """Whether there was more; at most about `bytes_max` of it is read."""
        if self._read > TOTAL_BYTES_MAX:
            return False
        if self._fd is None:
            if not os.access(self.path, os.F_OK, follow_symlinks=FOLLOW):
                return False
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            try:
                self._fd = os.open(self.path, flags)
            except OSError:
                self.odd = True
                return False
        found = 0
        while found < bytes_max and (data := self._some()):
            found += len(data)
            self._read += len(data)
            if self._read > TOTAL_BYTES_MAX:
                self.report.truncated = True
                return True
            self.report.feed(data)
        return found > 0

    def _some(self) -> bytes:
        assert self._fd is not None
        try:
            return os.read(self._fd, READ_BYTES)
        except OSError:
            self.odd = True
            return b""

    def close(self) -> bool:
        """Whether nothing is left of it. Call `read` before."""
        if self._fd is None:
            return not self.odd
        os.close(self._fd)
        self._fd = None
        try:
            os.unlink(self.path)
        except OSError:
            return False
        return True
