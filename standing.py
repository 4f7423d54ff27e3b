"""A pool that stands until it is told to end: `dtf up`, and the process behind `pytest --dtf`.

Rule: it ends all it started, whoever tells it to: Ctrl-C, `dtf down`, its parent's end, or time.

`python -m dtf.standing JSON` is the second without the command line, whose parser takes longer to
import than the server to start; see `core/pool_process.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import crew

if TYPE_CHECKING:
    from .core.config import Config
    from .local import IdleStop


async def stand(
    config: Config,
    workers: int,
    *,
    port: int | None = None,
    idle_s: float | None = None,
    with_parent: bool = False,
) -> int:
    """The pool of the data directory ran until it was told to end; 0.

    `idle_s`: it ends when nobody used it for so long. `with_parent`: it ends at the end of standard
    input. Raises what `local_pool` raises.
    """
    from .local import IdleStop, local_pool
    from .tui.console import say
    from .tui.formats import plural

    idle = IdleStop(idle_s) if idle_s is not None else None
    pool = local_pool(config, workers=workers, port=port, share=False, idle=idle, crew=crew.first)
    with _told(idle, with_parent=with_parent) as told:
        async with pool as found:
            say(f"dtf is up: {plural(workers, 'worker')} at {found.url}, data in {config.data_dir}")
            say_use(config)
            say("Ctrl-C stops it.", style="dim")
            await told.wait()
            say("Stopping ...", style="dim")
    return 0


def say_use(config: Config) -> None:
    """How to use the pool is on stderr."""
    from .tui.console import say

    say("  in this directory: dtf run suite.toml, dtf status")
    say(f"  anywhere else:     the same with --data-dir {config.data_dir}")


@contextmanager
def _told(idle: IdleStop | None, *, with_parent: bool) -> Iterator[asyncio.Event]:
    """Set at the first SIGINT or SIGTERM (the next one acts as usual), when the pool was idle for
    too long, or when the parent is gone."""
    from .tui.interrupts import on_signals

    told = idle.over if idle is not None else asyncio.Event()
    loop = asyncio.get_running_loop()
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), told.set)  # nothing is ever written there
    try:
        with on_signals(told.set):
            yield told
    finally:
        if with_parent:
            loop.remove_reader(sys.stdin.fileno())


def main() -> int:
    """Run the pool that the argument describes; the exit status."""
    crew.first = crew.Crew()
    import msgspec

    from .core.pool_process import Wanted
    from .core.session import Session, current, set_session

    wanted = msgspec.json.decode(sys.argv[1], type=Wanted)
    flags = {"data_dir": wanted.data_dir, "pool": wanted.pool}
    set_session(Session(progress=False, color="never", flags=flags))
    try:
        from .core.loop import run_async
        from .tui.sizing import worker_count

        config = current().config
        asked = wanted.workers if wanted.workers is not None else config.workers
        status: int = run_async(
            stand(
                config,
                worker_count(asked),
                port=wanted.port,
                idle_s=wanted.idle_s,
                with_parent=wanted.with_parent,
            )
        )
        return status
    except BaseException as error:
        from .tui.failures import say_failure

        return say_failure(error, ["up"])


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything has ended in order: taking the interpreter down takes longer
