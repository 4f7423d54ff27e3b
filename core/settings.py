"""Every configuration setting in one table: its name, how its value is read, what it is for.

Rule: the same reading for flag, environment, file and context; a bad value says what would be good.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .ids import is_name, to_name
from .quantities import size_bytes

Read = Callable[[Any, Path], Any]
"""(value, directory that relative paths start from) -> the setting's value, or ValueError."""
BUNDLE_BYTES_MAX = 64 * 1024 * 1024
LOCAL = "local"
"""As `server`: the pool on this machine, even where a file or a context names a server."""
MASK = "********"
_SCHEMES = ("nats", "tls", "ws", "wss")
_PREFIX = re.compile(r"[A-Za-z0-9_$-]+(\.[A-Za-z0-9_$-]+)*")


class Setting(NamedTuple):
    """One setting."""

    read: Read
    about: str
    secret: bool = False
    """Its value is never shown."""
    credential: bool = False
    """It belongs to the server it was written with."""


def _text(value: Any, base: Path) -> str:
    if not isinstance(value, str) or not value or value != value.strip():
        raise ValueError("text without spaces around it")
    return value


def _name(value: Any, base: Path) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise ValueError(
            "a name: 1 to 64 of A-Z a-z 0-9 _ - that starts with a letter or digit"
            + (f", such as {to_name(value)!r}" if isinstance(value, str) and value else "")
        )
    return value


def _path(value: Any, base: Path) -> Path:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path")
    return (base / Path(value).expanduser()).absolute()


def _server(value: Any, base: Path) -> str | None:
    wanted = ValueError('an address such as "nats://host:4222", or "local"')
    if not isinstance(value, str) or not value or set(value) & set(" \t\r\n"):
        raise wanted
    if value == LOCAL:
        return None
    return ",".join(_one_server(part, wanted) for part in value.split(","))


def _one_server(part: str, wanted: ValueError) -> str:
    url = part if "://" in part else f"nats://{part}"
    try:
        split = urlsplit(url)
        good = split.scheme in _SCHEMES and bool(split.hostname) and split.port != 0
    except ValueError:
        good = False
    if not good:
        raise wanted
    return url


def _prefix(value: Any, base: Path) -> str:
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise ValueError(
            'subject tokens joined by dots, such as "$JS.API", without a dot at the end'
        )
    return value


def _count(value: Any, base: Path) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1024:
        raise ValueError("a whole number from 0 to 1024")
    return value


def _size(value: Any, base: Path) -> int:
    try:
        return size_bytes(int(value) if isinstance(value, str) and value.isdigit() else value)
    except ValueError:
        raise ValueError('a size such as "64M", or a number of bytes') from None


SETTINGS: dict[str, Setting] = {
    "server": Setting(
        _server, "NATS server to use; unset or `local` means the one on this machine"
    ),
    "pool": Setting(_name, "pool to work with"),
    "publisher": Setting(_name, "name you submit runs under"),
    "data_dir": Setting(
        _path, "where the local pool keeps its log, its history and its workers' files"
    ),
    "user": Setting(_text, "user name for the server", credential=True),
    "password": Setting(_text, "password for the server", secret=True, credential=True),
    "token": Setting(_text, "token for the server", secret=True, credential=True),
    "creds": Setting(_path, "NATS credentials file for the server", credential=True),
    "tls_ca": Setting(_path, "certificate authority that signed the server's certificate"),
    "tls_cert": Setting(_path, "certificate this client shows the server", credential=True),
    "tls_key": Setting(_path, "key of `tls_cert`", credential=True),
    "js_prefix": Setting(
        _prefix, "prefix of the JetStream API, where it is imported under another name"
    ),
    "inbox_prefix": Setting(_prefix, "prefix of reply subjects; unset means a random one"),
    "worker": Setting(_name, "name of a worker started on this machine"),
    "workers": Setting(_count, "worker processes of the local pool; unset means one for each core"),
    "bundle_limit": Setting(_size, "most bytes a run may ship to workers, unless its suite says"),
}
"""Setting -> how it is read.

Flags are `--data-dir`, environment variables `DTF_DATA_DIR`, keys `data_dir`.
"""
TASK_VARIABLES = frozenset(
    {"RUN", "TASK", "ATTEMPT", "PARAMS", "SCRATCH", "REPORT", "HARDWARE", "DEVICES", "BUNDLE"}
)
"""DTF_* variables that a worker sets for a test; they are no settings."""


def masked(key: str, value: Any) -> str:
    """The value as it may be shown: no password, no token, no user information inside a URL."""
    if value is None:
        return ""
    if SETTINGS[key].secret:
        return MASK
    if key == "server":
        return re.sub(r"://[^@/,]*@", f"://{MASK}@", str(value))
    return str(value)
