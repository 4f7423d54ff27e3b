"""A pool in a process of its own, for programs that are not one.

Rule: what is started here ends with whoever started it, even when that is killed; a pool that was
there before is used and left alone.

Imports nothing heavy: `pytest --dtf` and `dtf up --detach` begin here. The process is `dtf up`
(`standing.py`); it is told to end by the end of file on its standard input, which the kernel sees
to.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .errors import ServerUnavailable
from .pool_file import PoolFile, find_pool_file
from .pool_lock import PoolLock

if TYPE_CHECKING:
    from .config import Config

LOG_FILE = "up.log"
START_LIMIT_S = 60.0
END_LIMIT_S = 30.0
LOOK_S = 0.004


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told on its command line, as JSON."""

    data_dir: str
    pool: str
    workers: int | None = None
    port: int | None = None
    idle_s: float | None = None
    with_parent: bool = False


class PoolProcess:
    """`dtf up` on a data directory, as a child in a session of its own."""

    def __init__(
        self,
        config: Config,
        *,
        workers: int | None = None,
        port: int | None = None,
        idle_s: float | None = None,
        with_parent: bool,
    ) -> None:
        """Starts it. `with_parent`: it ends with this process, or when `stop` is called.

        `workers` None: as configured. `idle_s`: it ends when nobody used it for so long. What it
        says is in `up.log` in the data directory.
        """
        self._data_dir = config.data_dir
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        wanted = Wanted(
            data_dir=str(config.data_dir),
            pool=config.pool,
            workers=workers,
            port=port,
            idle_s=idle_s,
            with_parent=with_parent,
        )
        argv = [sys.executable, "-P", "-m", "dtf.standing", msgspec.json.encode(wanted).decode()]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if with_parent else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C at the terminal is for this process to handle
            )

    @property
    def log_file(self) -> Path:
        return self._data_dir / LOG_FILE

    @property
    def pid(self) -> int:
        return self._process.pid

    def found(self) -> PoolFile | None:
        """A pool that is ready on the data directory, ours or another's; None while there is none.

        Raises `ServerUnavailable` with its last words when the process ended before.
        """
        found = find_pool_file(self._data_dir)
        if found is not None:
            return found if found.ready else None
        if self._process.poll() is not None:
            raise ServerUnavailable(
                f"the pool did not start: {self._last_words()}", remedy=f"See {self.log_file}."
            )
        return None

    def stop(self, wait_s: float = END_LIMIT_S) -> None:
        """It was told to end, and ended unless that took longer than `wait_s`. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if wait_s > 0:
            try:
                self._process.wait(wait_s)
            except subprocess.TimeoutExpired:
                return
        else:
            self._process.poll()

    def _last_words(self) -> str:
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        said = [line for line in lines if line.startswith("error")] or lines[-1:]
        return said[-1].removeprefix("error:").strip() if said else "it said nothing"


class PoolInUse:
    """The pool of a data directory, found or started, and held open until `release`."""

    def __init__(self, config: Config, workers: int | None = None) -> None:
        """Nothing happens yet. `workers`: of a pool that is started; None: as configured."""
        self._config = config
        self._workers = workers
        self._lock = PoolLock(config.data_dir)
        self._process: PoolProcess | None = None

    @property
    def started(self) -> bool:
        """The pool is ours: it ends with us."""
        return self._process is not None

    def look(self) -> PoolFile | None:
        """The pool, once it is ready and cannot close any more; call again until then.

        Raises `ServerUnavailable` when it cannot start.
        """
        found = find_pool_file(self._config.data_dir)
        if found is None and self._process is None:
            self._process = PoolProcess(self._config, workers=self._workers, with_parent=True)
        elif self._process is not None:
            found = self._process.found()
        return found if found is not None and found.ready and self._lock.share() else None

    def wait(self, limit_s: float = START_LIMIT_S) -> PoolFile:
        """`look` until there is one, in this thread. Raises `ServerUnavailable`."""
        deadline = time.monotonic() + limit_s
        while (found := self.look()) is None:
            if time.monotonic() > deadline:
                self.release(0)
                raise ServerUnavailable(
                    f"no pool was ready on {self._config.data_dir} in {limit_s:.0f} s",
                    remedy=f"See {self._config.data_dir / LOG_FILE}, or name another --data-dir.",
                )
            time.sleep(LOOK_S)
        return found

    def release(self, wait_s: float = END_LIMIT_S) -> None:
        """The pool may close; if we started it, it has closed unless that took longer than
        `wait_s`. Idempotent."""
        self._lock.close()
        if self._process is not None:
            self._process.stop(wait_s)
