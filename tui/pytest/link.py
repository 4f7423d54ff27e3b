"""The thread that talks to the pool while pytest runs in the main thread.

Rule: facts go one way through a queue, wishes the other way through `call_soon_threadsafe`; the
main thread never waits for the pool without a limit. Heavy imports happen here, while pytest
itself still starts.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .options import Wishes

if TYPE_CHECKING:
    from .pool_run import PoolRun
    from .seen import Seen

CLOSE_S = 5.0
"""How long the end of pytest waits for the run to be closed on the pool."""


class Work(NamedTuple):
    """What is to be run, known once files were found."""

    files: list[str]
    selected: dict[str, list[str]]
    args: list[str]
    lastfailed: list[str]
    stop_after: int
    live: bool
    """Show output as it comes (`-s`)."""


class Place(NamedTuple):
    """Where pytest was invoked."""

    directory: Path
    rootdir: Path


class Link:
    """One run on the pool, as the main thread sees it."""

    def __init__(self, wishes: Wishes, place: Place) -> None:
        self.wishes, self.place = wishes, place
        self.inbox: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        """Facts in order; the last one is `Ended`."""
        self.work: Future[Work] = Future()
        """Given by the main thread; cancelled when there is nothing to run."""
        self.run: PoolRun | None = None
        """Once connected: counts for the summary."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="dtf", daemon=True)
        self._task: asyncio.Task[None] | None = None
        self._over = threading.Event()

    def start(self) -> None:
        """The thread connects in the background."""
        self._thread.start()

    def cancel(self, reason: str, wait_s: float = CLOSE_S) -> None:
        """The run is asked to end; returns once that is stored, or after `wait_s`."""
        stored = threading.Event()
        run, loop = self.run, self._loop
        if run is None or loop is None or self._over.is_set():
            return
        try:
            loop.call_soon_threadsafe(run.cancel, reason, stored.set)
        except RuntimeError:  # the loop has just ended
            return
        stored.wait(wait_s)

    def close(self, wait_s: float = CLOSE_S) -> None:
        """The thread has ended, or is left behind (it keeps no process alive)."""
        self.work.cancel()
        self._thread.join(wait_s)
        if self._thread.is_alive() and self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                return
            self._thread.join(1.0)

    def _main(self) -> None:
        from .seen import Ended

        try:
            from ...core.loop import loop_factory

            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                self._loop = runner.get_loop()
                runner.run(self._follow())
        except asyncio.CancelledError:
            self.inbox.put(Ended(None))
        except BaseException as problem:  # boundary: the main thread raises it
            self.inbox.put(Ended(problem))
        finally:
            self._over.set()

    async def _follow(self) -> None:
        from .pool_run import PoolRun

        self._task = asyncio.current_task()
        self.run = PoolRun(self)
        await self.run.run()
