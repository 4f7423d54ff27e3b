"""The projector: the log into a DuckDB file, whole messages at a time, each exactly once.

Rule: rows, position and snapshot are one transaction; the file can be lost at any moment, the log
brings back the same rows (protocol F7, F8).

Folding and row making happen on the event loop, a few hundred events at a time; DuckDB works on one
thread of its own. When to write is in `writing.py`, where to go on in `resume.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from ..core.errors import FoldVersionError, Unavailable
from ..core.ports import EventLog
from ..core.subjects import Subjects
from .beats import BeatReader
from .database import set_aside
from .errors import DatabaseBroken, DatabaseFull
from .reached import Reached
from .resume import Resumed, open_store, resume
from .store import Store
from .writing import ProjectorOptions, Writing

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger("dtf.projector")
T = TypeVar("T")
EVENT_BYTES = 128
"""About the size of an event, to tell how long a message takes without counting."""


class Projector:
    """Keeps one DuckDB file equal to one pool's log."""

    def __init__(
        self,
        event_log: EventLog,
        telemetry: EventLog | None,
        database: Path,
        pool: str,
        options: ProjectorOptions | None = None,
    ) -> None:
        self.pool = pool
        self.database = database
        self.options = options or ProjectorOptions()
        self._log = event_log
        self._beats = BeatReader(telemetry, Subjects(pool)) if telemetry is not None else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dtf-duckdb")
        self._reached = Reached()
        self._store: Store | None = None
        self._writing: Writing | None = None

    # -- for others --------------------------------------------------------------------------------
    @property
    def position(self) -> int:
        """Sequence of the last message whose rows are in the file."""
        return self._reached.position

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that sees what is committed, for the block. Any thread, many at once.

        Raises `Unavailable` while the file is not open.
        """
        store = self._store
        if store is None:
            raise Unavailable(f"{self.database} is not open", remedy="Try again in a moment.")
        return store.reading()

    async def reached(self, sequence: int) -> None:
        """Returns once the rows of every message up to `sequence` are in the file.

        Raises `Unavailable` when the projector ends before.
        """
        await self._reached.wait(sequence)

    def distrust(self, damage: DatabaseBroken) -> None:
        """A reader met damage in the file: it is set aside and rebuilt from the log."""
        if self._writing is not None:
            self._writing.distrust(damage)

    # -- running -----------------------------------------------------------------------------------
    async def run(self) -> None:
        """Project until cancelled; a file that breaks is opened anew, or rebuilt from the log.

        Raises `DatabaseBusy`, `DatabaseForeign`, `LogGap`, `FoldVersionError`; what was read is
        written first.
        """
        broken_at, replace = -1, False
        try:
            while True:
                try:
                    await self._project(replace=replace)
                except DatabaseFull as error:
                    log.error("%s. %s", error, error.remedy)
                    replace = False
                    await asyncio.sleep(self.options.full_ms / 1000)
                except DatabaseBroken as error:
                    if broken_at == self.position == 0:
                        raise  # a fresh file breaks, too
                    log.error("%s", error)
                    damaged = self._writing is not None and self._writing.damage is not None
                    replace = damaged or broken_at == self.position
                    broken_at = self.position
        finally:
            self._reached.end(self._gone)
            self._thread.shutdown(wait=False)

    def _gone(self) -> Unavailable:
        return Unavailable(
            f"the projector of {self.database} has stopped at {self.position}",
            remedy="Start it again: `dtf projector run`.",
        )

    async def _project(self, *, replace: bool) -> None:
        """One life of the file: opened (set aside first with `replace`), followed, closed."""
        self._writing = None
        if replace:
            await self._in_thread(lambda: set_aside(self.database, "broken"))
        store: Store = await self._in_thread(lambda: open_store(self.database, self.pool))
        try:
            resumed = await resume(store, self._log, self.pool, self._in_thread)
            store = self._store = resumed.store
            self._writing = Writing(
                resumed, self.options, self._beats, self._reached, self._in_thread
            )
            await self._follow(store, self._writing, resumed)
        finally:
            with anyio.CancelScope(shield=True):
                self._store = None
                await self._in_thread(store.close)

    async def _follow(self, store: Store, writing: Writing, resumed: Resumed) -> None:
        """Read and write until cancelled or stopped by an error; what was read is written."""
        loop = asyncio.get_running_loop()
        prepared = loop.run_in_executor(self._thread, store.prepare)  # while the log is read
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(writing.commits, prepared, name="commits")
                if self._beats is not None:
                    group.start_soon(self._beats.run, resumed.telemetry, name="beats")
                await self._read(writing, resumed.ledger.pool.sequence)
        except BaseExceptionGroup as errors:
            first = _first(errors)
            if not isinstance(first, DatabaseBroken):
                # A newer fold stops inside a message: such a state must not be kept.
                await writing.leave(snapshot=not isinstance(first, FoldVersionError))
            raise first from None
        except asyncio.CancelledError:
            await writing.leave(snapshot=True)
            raise

    async def _read(self, writing: Writing, after: int) -> None:
        work = 0
        async with aclosing(self._log.read([], after, name="projector")) as batches:
            async for batch in batches:
                for message in batch:
                    writing.feed(message)
                    work += 1 + len(message.data) // EVENT_BYTES
                    if work >= self.options.slice_events:
                        work = 0
                        await writing.breathe()
                await writing.breathe()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of groups: there is one cause, the rest is its consequence."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


__all__ = ["Projector", "ProjectorOptions"]
