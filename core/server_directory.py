"""What a server's data directory says about it.

Rule: secrets are for the owner only, and a lock tells the truth.

The lock is held by the server process itself (it inherits the descriptor), so it is let go exactly
when that ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

import msgspec

from .adapters.nats_client import NatsOptions

STATE_FILE, LOCK_FILE = "server.json", "server.lock"


class Credentials(msgspec.Struct, frozen=True):
    """What the generated users are called and how they prove it."""

    user: str
    password: str
    system_user: str
    system_password: str


class ServerState(msgspec.Struct, frozen=True):
    """Written beside the data while a server runs, so that others on this machine find it."""

    url: str
    pid: int


def credentials(data_dir: Path) -> Credentials:
    """The credentials of this data directory; made at the first call, the same ever after."""
    path = data_dir / "credentials.json"
    with contextlib.suppress(FileNotFoundError):
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    made = Credentials("dtf", secrets.token_urlsafe(24), "sys", secrets.token_urlsafe(24))
    try:
        write_private(path, msgspec.json.encode(made), exclusive=True)
    except FileExistsError:
        return credentials(data_dir)
    return made


def write_private(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """`path` holds `data`, readable by its owner only, complete or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data)
        if exclusive:
            os.link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def running_server(data_dir: Path) -> NatsOptions | None:
    """How to enter the server that runs on this data directory now; None when none does."""
    try:
        state = msgspec.json.decode((data_dir / STATE_FILE).read_bytes(), type=ServerState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    if not _locked(data_dir / LOCK_FILE):
        return None
    known = credentials(data_dir)
    return NatsOptions(url=state.url, user=known.user, password=known.password)


def _locked(path: Path) -> bool:
    lock = try_lock(path)
    if lock is None:
        return True
    os.close(lock)
    return False


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when another process has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    if sys.platform == "win32":
        return file  # no advisory locks to inherit; two servers are refused by their port only
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
