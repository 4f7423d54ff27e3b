"""How a local pool is found: `pool.json` in its data directory.

Rule: only the owner may read it, and it may be stale.

Whoever starts a local pool writes the file once the server answers and removes it when the server
has stopped. A file left behind by a kill is recognised by its process being gone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from .errors import ServerUnavailable
from .ids import random_id

POOL_FILE = "pool.json"
_REMEDY = (
    "Start one with `dtf up`, let `dtf run` start one, or name a server (--server, DTF_SERVER)."
)


class PoolFile(msgspec.Struct, frozen=True, kw_only=True):
    """A local pool that runs, or ran. Unknown fields are ignored."""

    url: str
    user: str | None = None
    password: str | None = None
    pid: int
    """Process that owns the pool."""
    started: float = 0.0
    """When it started (Unix seconds); for people."""
    ready: bool = True
    """Its workers have joined."""
    standing: bool = False
    """It belongs to `dtf up`, not to a command that ends by itself."""

    def __repr__(self) -> str:
        return f"PoolFile(url={self.url!r}, pid={self.pid})"


def write_pool_file(data_dir: Path, pool: PoolFile) -> Path:
    """The file is there, whole, mode 0600; an older one is replaced."""
    path = data_dir / POOL_FILE
    fresh = data_dir / f".{POOL_FILE}.{random_id()}"
    data_dir.mkdir(parents=True, exist_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(pool))
    return fresh.replace(path)


def remove_pool_file(data_dir: Path, pid: int) -> None:
    """The file is gone if it named process `pid`; another owner's file is left alone."""
    found = find_pool_file(data_dir, alive=False)
    if found is not None and found.pid == pid:
        (data_dir / POOL_FILE).unlink(missing_ok=True)


def find_pool_file(data_dir: Path, *, alive: bool = True) -> PoolFile | None:
    """The pool on this data directory, or None when there is no readable file or (with `alive`) its
    process is gone.
    """
    try:
        found = msgspec.json.decode((data_dir / POOL_FILE).read_bytes(), type=PoolFile)
    except (OSError, msgspec.DecodeError):
        return None
    return found if not alive or _lives(found.pid) else None


def read_pool_file(data_dir: Path) -> PoolFile:
    """The pool that runs on this data directory; raises `ServerUnavailable` when none does."""
    found = find_pool_file(data_dir)
    if found is None:
        raise ServerUnavailable(f"no local pool runs on {data_dir}", remedy=_REMEDY)
    return found


def _lives(pid: int) -> bool:
    """Whether a process of that id runs (maybe another one: a connection then fails)."""
    if sys.platform == "win32":
        import psutil

        return pid > 0 and psutil.pid_exists(pid)
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid < 2**31
    return True
