"""Scratch directories. Rule: an attempt finds an empty directory; one left empty serves the next
attempt.

Making and removing a directory waits for the file system's journal, which the event log's fsync
keeps busy: measured beside a server, 2 ms a task. So the usual short task touches no directory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..core.ids import random_id
from .runners.command import output_path, report_path


class ScratchArea:
    """The scratch directories of one agent, below `parent`. `later` runs a function in a thread."""

    def __init__(self, parent: Path, later: Callable[[Callable[[], None], str], None]) -> None:
        self.folder = parent / random_id(12)
        self._later = later
        self._free: list[str] = []
        self._made = 0
        self._lock = -1

    @property
    def name(self) -> str:
        """Unique among all agents."""
        return self.folder.name

    def open(self) -> None:
        """The area exists; those of agents that died are being removed."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_file(self.folder.with_suffix(".lock"))
        self.folder.mkdir(mode=0o700)
        parent = self.folder.parent
        self._later(lambda: remove_abandoned(parent), "remove old scratch")

    def take(self) -> str:
        """An empty directory that is nobody else's. Raises OSError when none can be made."""
        if self._free:
            return self._free.pop()
        self._made += 1
        path = self.folder / str(self._made)
        path.mkdir(mode=0o700)
        return str(path)

    def give_back(self, path: str, *, clean: bool) -> None:
        """The attempt is over. What is not clean is removed and never used again."""
        if clean:
            self._free.append(path)
        else:
            self._later(lambda: remove(path), "remove scratch")

    def close(self) -> None:
        """Nothing of the area is left. Blocks."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            self.folder.with_suffix(".lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1


def remove(scratch: str) -> None:
    """Nothing of the attempt is left on disk."""
    shutil.rmtree(scratch, ignore_errors=True)
    for path in (scratch, report_path(scratch), output_path(scratch)):
        if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
            os.unlink(path)


def lock_file(path: Path) -> int:
    """A lock that says "in use" until this process ends, however it ends. Raises OSError when
    somebody holds it.
    """
    import fcntl

    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # it was removed while we opened it


def remove_abandoned(parent: Path) -> None:
    """Scratch areas whose agent is gone are removed; what cannot be removed stays. Blocks."""
    for path in parent.glob("*.lock"):
        try:
            lock = lock_file(path)
        except OSError:  # in use
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink(missing_ok=True)
        os.close(lock)
