"""Who may start, use and stop the local pool of a data directory.

Rule: the kernel holds the locks, so whoever is killed holds none.

`pool.lock`: exclusive for the one process that runs the pool, shared by readers of its files while
none does. `users.lock`: shared by processes that use the pool; exclusive for the owner once it
closes, so that nobody enters a pool that is going, and for a reader that runs the server alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import Unavailable

OWNER, USERS = "pool.lock", "users.lock"


class PoolLock:
    """The locks of one data directory as held by this process; `close` lets go of all."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._held: dict[str, int] = {}

    def own(self) -> bool:
        """True when this process now is the owner; the pool is then its own to start."""
        return self._take(OWNER, shared=False)

    def read(self) -> bool:
        """True when no owner runs a pool here, nor starts one before `close`: files can be read."""
        return self._take(OWNER, shared=True)

    def share(self) -> bool:
        """True when the owner cannot close the pool any more until `close`."""
        if not self._take(USERS, shared=True):
            return False
        with contextlib.suppress(OSError):
            os.utime(self.data_dir / USERS)
        return True

    def unused_since(self) -> float | None:
        """For the owner: when somebody last began to use the pool (Unix seconds), if nobody does
        now; else None."""
        if not self._take(USERS, shared=False):
            return None
        file = self._held.pop(USERS)
        try:
            return os.fstat(file).st_mtime
        finally:
            os.close(file)

    def seal(self) -> bool:
        """For the owner: True when nobody uses the pool, and nobody can begin to."""
        return self._take(USERS, shared=False)

    def close(self) -> None:
        """All locks are released. Idempotent."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _take(self, name: str, *, shared: bool) -> bool:
        if name in self._held:
            return True
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(file, shared):
            os.close(file)
            return False
        self._held[name] = file
        return True


@contextmanager
def reading(data_dir: Path) -> Iterator[None]:
    """Inside, no pool starts on the directory; raises `Unavailable` while one runs."""
    lock = PoolLock(data_dir)
    try:
        if not lock.read():
            raise Unavailable(
                f"a pool on {data_dir} starts or ends at this moment", remedy="Try again."
            )
        yield
    finally:
        lock.close()


def _lock(file: int, shared: bool) -> bool:
    if sys.platform == "win32":
        return True  # two pools on one directory are refused by the server's own lock there
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
