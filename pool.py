"""`dtf up` and `dtf down`: the pool on this machine as something that stands.

Rule: nothing is started twice, and nothing is ended that belongs to somebody else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .core.errors import ServerUnavailable, UserError
from .core.exit_codes import ExitCode
from .core.pool_file import find_pool_file
from .core.pool_lock import PoolLock
from .core.pool_process import START_LIMIT_S, PoolProcess
from .core.quantities import duration_ms
from .core.session import current
from .standing import say_use, stand
from .tui.console import say
from .tui.formats import plural
from .tui.sizing import worker_count

if TYPE_CHECKING:
    from .core.config import Config
    from .core.pool_file import PoolFile

LOOK_S = 0.02
TELL_S = 1.0
"""`dtf down` says whom it waits for after this."""


async def up(
    *,
    workers: Annotated[int | None, Parameter(name=["--workers", "-n"])] = None,
    port: int | None = None,
    detach: Annotated[bool, Parameter(negative="")] = False,
    idle_stop: str | None = None,
) -> int:
    """Run a whole pool on this machine until Ctrl-C or `dtf down`.

    Parameters
    ----------
    workers
        Worker processes; 0 for none of ours (join others with `dtf-worker run`).
    port
        Port of the server on 127.0.0.1; a free one without it.
    detach
        Leave it in the background and return once its workers have joined.
    idle_stop
        End by itself when no command and no run has used it for so long, such as 10m.
    """
    config = current().config
    count = worker_count(workers if workers is not None else config.workers, 0, 0)
    limit_s = _limit(idle_stop)
    if detach:
        return await _detach(config, count, port, limit_s)
    return await stand(config, count, port=port, idle_s=limit_s)


def _limit(idle_stop: str | None) -> float | None:
    """Seconds. Raises `UserError`."""
    if idle_stop is None:
        return None
    try:
        limit_s = duration_ms(idle_stop) / 1000
    except ValueError as error:
        raise UserError(f"--idle-stop: {error}", remedy="Such as 10m.") from None
    if limit_s < 1:
        raise UserError(f"--idle-stop {idle_stop} is less than a second", remedy="Such as 10m.")
    return limit_s


async def _detach(config: Config, count: int, port: int | None, idle_s: float | None) -> int:
    """The pool runs in the background; one that runs already is as good."""
    found = _running(config)
    if found is None:
        found = await _start(config, count, port, idle_s)
        say(f"dtf is up: {plural(count, 'worker')} at {found.url}, process {found.pid}")
    else:
        say(f"dtf is up already at {found.url}, process {found.pid}")
    say_use(config)
    say(f"dtf down --data-dir {config.data_dir} stops it.", style="dim")
    return ExitCode.PASSED


async def _start(config: Config, count: int, port: int | None, idle_s: float | None) -> PoolFile:
    process = PoolProcess(config, workers=count, port=port, idle_s=idle_s, with_parent=False)
    deadline = time.monotonic() + START_LIMIT_S
    while (found := process.found()) is None:
        if time.monotonic() > deadline:
            raise ServerUnavailable(
                f"no pool was ready on {config.data_dir} in {START_LIMIT_S:.0f} s",
                remedy=f"See {process.log_file}; `dtf down` ends it.",
            )
        await asyncio.sleep(LOOK_S)
    return found


def _running(config: Config) -> PoolFile | None:
    """The pool of the data directory, unless its file was left by one that was killed."""
    found = find_pool_file(config.data_dir)
    if found is None:
        return None
    lock = PoolLock(config.data_dir)
    try:
        return None if lock.own() else found
    finally:
        lock.close()


async def down(*, timeout: str = "60s") -> int:
    """End the pool that `dtf up` runs on the data directory, once nobody uses it.

    Exit code 0 also when none runs; 3 when it still runs after the time-out.

    Parameters
    ----------
    timeout
        How long to wait for its end, such as 60s.
    """
    config = current().config
    try:
        limit_s = duration_ms(timeout) / 1000
    except ValueError as error:
        raise UserError(f"--timeout: {error}", remedy="Such as 60s.") from None
    found = _running(config)
    if found is None:
        say(f"No pool runs on {config.data_dir}.")
        return ExitCode.PASSED
    if not found.standing:
        raise UserError(
            f"the pool on {config.data_dir} belongs to a command that runs (process {found.pid})",
            remedy="It ends with that command: Ctrl-C there.",
        )
    os.kill(found.pid, signal.SIGTERM)
    await _gone(config, found, limit_s)
    say(f"The pool on {config.data_dir} has ended.")
    return ExitCode.PASSED


async def _gone(config: Config, found: PoolFile, limit_s: float) -> None:
    begun, told = time.monotonic(), False
    while (now := _running(config)) is not None and now.pid == found.pid:
        waited = time.monotonic() - begun
        if waited > limit_s:
            raise ServerUnavailable(
                f"the pool on {config.data_dir} (process {found.pid}) still runs after "
                f"{limit_s:g} s",
                remedy="Somebody uses it: end their commands, or wait longer (--timeout).",
            )
        if waited > TELL_S and not told:
            told = True
            say("Waiting for what still uses it ...", style="dim")
        await asyncio.sleep(LOOK_S)
