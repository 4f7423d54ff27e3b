"""The projector: the log into a DuckDB file, whole messages at a time, each exactly once.

Rule: rows, position and snapshot are one transaction; the file can be lost at any moment, the log
brings back the same rows (protocol F7, F8).

Folding and row making happen on the event loop, a few hundred events at a time; DuckDB works on one
thread of its own. A commit comes when the log is idle, after `commit_ms`, or at `rows_max` rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from ..core.errors import FoldVersionError, Unavailable
from ..core.ports import EventLog, Message
from ..core.subjects import Subjects
from .beats import BeatReader
from .database import set_aside
from .errors import DatabaseBroken, DatabaseFull
from .ledger import Delta, Ledger
from .memo import save
from .resume import Resumed, message_digest, open_store, resume
from .rows import feed
from .store import Commit, Place, Saved, Store

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger("dtf.projector")
T = TypeVar("T")
EVENT_BYTES = 128
"""About the size of an event, to tell how long a message takes without counting."""


@dataclass(frozen=True, kw_only=True)
class ProjectorOptions:
    """When to write. The defaults suit a pool that also wants its own results soon."""

    commit_ms: int = 250
    """Longest wait of a row for its commit while the log is busy."""
    idle_ms: int = 50
    """The log counts as idle after so long without a message."""
    rest_ms: int = 15
    """The same when no run is open: nothing more is to be expected."""
    rows_max: int = 60_000
    """Rows of one commit; four times as many may wait before reading stops."""
    beats_ms: int = 1000
    """Longest wait of a heartbeat."""
    snapshot_bytes: int = 8 * 1024 * 1024
    """Log read between two snapshots, at least; four times the last snapshot when that is more."""
    slice_events: int = 500
    """Events folded before others on the event loop get their turn."""
    full_ms: int = 2000
    """Wait before a commit is tried again that found the disk full."""


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
        self.position = 0
        """Sequence of the last message whose rows are in the file."""
        self._log = event_log
        self._beats = BeatReader(telemetry, Subjects(pool)) if telemetry is not None else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dtf-duckdb")
        self._store: Store | None = None
        self._ended = False
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._forget()

    def _forget(self) -> None:
        """As before the first message."""
        self._ledger = Ledger(self.pool)
        self._place = Place()
        self._origin: tuple[int, str] = (0, "")
        self._last: Message | None = None
        self._fed = 0
        """Messages fed; moves whenever something arrives."""
        self._bytes = 0
        """Bytes of log since the last snapshot."""
        self._saved_bytes = 0
        self._stored_to = 0
        """Up to here the file had the rows before this start: they are folded, not written."""
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._damage: DatabaseBroken | None = None
        """What a reader met in the file."""
        self._pending: Commit | None = None
        """Taken from the ledger, and not known to be in the file."""

    # -- for others --------------------------------------------------------------------------------
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
        if self.position >= sequence:
            return
        if self._ended:
            raise self._gone()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((sequence, future))
        self._hurry()
        await future

    def distrust(self, error: DatabaseBroken) -> None:
        """A reader met damage in the file: it is set aside and rebuilt from the log."""
        if self._damage is None:
            self._damage = error
            self._work.set()
            self._hurry()

    # -- running -----------------------------------------------------------------------------------
    async def run(self) -> None:
        """Project until cancelled; a file that breaks is opened anew, or rebuilt from the log.

        Raises `DatabaseBusy`, `DatabaseForeign`, `LogGap`, `FoldVersionError`; what was read is
        written first.
        """
        broken_at, damaged = -1, False
        try:
            while True:
                replace, damaged = damaged or broken_at == self.position, False
                try:
                    await self._project(replace=replace)
                except DatabaseFull as error:
                    log.error("%s. %s", error, error.remedy)
                    await asyncio.sleep(self.options.full_ms / 1000)
                except DatabaseBroken as error:
                    if broken_at == self.position == 0:
                        raise  # a fresh file breaks, too
                    log.error("%s", error)
                    broken_at = self.position
                    damaged = self._damage is not None
        finally:
            self._ended = True
            for _, future in self._waiters:
                if not future.done():
                    future.set_exception(self._gone())
            self._thread.shutdown(wait=False)

    def _gone(self) -> Unavailable:
        return Unavailable(
            f"the projector of {self.database} has stopped at {self.position}",
            remedy="Start it again: `dtf projector run`.",
        )

    async def _project(self, *, replace: bool) -> None:
        """One life of the file: opened (set aside first with `replace`), followed, closed."""
        self._forget()
        if replace:
            await self._in_thread(lambda: set_aside(self.database, "broken"))
        store: Store = await self._in_thread(lambda: open_store(self.database, self.pool))
        try:
            resumed = await resume(store, self._log, self.pool, self._in_thread)
            store = self._store = resumed.store
            self._take_up(resumed)
            await self._follow(store, resumed)
        finally:
            with anyio.CancelScope(shield=True):
                self._store = None
                await self._in_thread(store.close)

    def _take_up(self, resumed: Resumed) -> None:
        self._ledger = resumed.ledger
        self._place = resumed.place
        self._origin = (resumed.place.origin_sequence, resumed.place.origin_digest)
        self._stored_to = self.position = resumed.place.sequence
        self._answer_waiters()

    async def _follow(self, store: Store, resumed: Resumed) -> None:
        """Read and write until cancelled or stopped by an error; what was read is written."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._commits, store, name="commits")
                if self._beats is not None:
                    group.start_soon(self._beats.run, resumed.telemetry, name="beats")
                await self._read(resumed.ledger.pool.sequence)
        except BaseExceptionGroup as errors:
            first = _first(errors)
            if not isinstance(first, DatabaseBroken):
                # A newer fold stops inside a message: such a state must not be kept.
                await self._leave(store, snapshot=not isinstance(first, FoldVersionError))
            raise first from None
        except asyncio.CancelledError:
            await self._leave(store, snapshot=True)
            raise

    async def _leave(self, store: Store, *, snapshot: bool) -> None:
        """What was read is in the file, if the disk takes it."""
        with anyio.CancelScope(shield=True):
            try:
                if self._pending is not None:
                    await self._write(store)
                await self._write(store, snapshot=snapshot)
            except (DatabaseFull, DatabaseBroken) as error:
                log.warning("%s; it will be written at the next start", error)

    async def _read(self, after: int) -> None:
        work = 0
        async with aclosing(self._log.read([], after, name="projector")) as batches:
            async for batch in batches:
                for message in batch:
                    self._feed(message)
                    work += 1 + len(message.data) // EVENT_BYTES
                    if work >= self.options.slice_events:
                        work = 0
                        await self._breathe()
                await self._breathe()

    def _feed(self, message: Message) -> None:
        """The message is in the ledger; what the file has already is not kept there."""
        ledger = self._ledger
        feed(ledger, message)
        self._last = message
        self._fed += 1
        self._bytes += len(message.data)
        if not self._origin[0] and ledger.pool.uuid:
            self._origin = (message.sequence, message_digest(message))
        if message.sequence > self._stored_to:
            self._work.set()
        elif message.sequence == self._stored_to or self._fed % 64 == 0:
            ledger.take()

    async def _breathe(self) -> None:
        """Others on the loop had their turn, and there is room for more rows."""
        waiting = self._ledger.waiting
        if waiting >= self.options.rows_max:
            self._urgent.set()
        if waiting >= 4 * self.options.rows_max:
            self._room.clear()
            await self._room.wait()
        else:
            await asyncio.sleep(0)

    # -- committing --------------------------------------------------------------------------------
    async def _commits(self, store: Store) -> None:
        while True:
            await self._something()
            await self._linger()
            if self._damage is not None:
                raise self._damage
            await self._write(store, patient=True)

    async def _something(self) -> None:
        """Returns when there is something to write: news of the log, or heartbeats of some age."""
        while not self._work.is_set():
            with anyio.move_on_after(self.options.beats_ms / 1000):
                await self._work.wait()
            if self._beats is not None and self._beats.rows:
                return

    async def _linger(self) -> None:
        """Returns when the log is idle, somebody waits, or the commit is due."""
        clock = asyncio.get_running_loop().time
        due = clock() + self.options.commit_ms / 1000
        while not self._urgent.is_set() and clock() < due:
            seen = self._fed
            idle = self.options.idle_ms if self._ledger.runs else self.options.rest_ms
            with anyio.move_on_after(min(idle / 1000, due - clock())):
                await self._urgent.wait()
            if self._fed == seen:
                return

    async def _write(self, store: Store, *, patient: bool = False, snapshot: bool = False) -> None:
        """Everything fed is in the file. `patient`: a full disk is waited for."""
        self._work.clear()
        self._urgent.clear()
        commit = self._pending = self._pending or self._commit(snapshot)
        told = False
        while True:
            try:
                with anyio.CancelScope(shield=True):  # whether it worked must be known
                    await self._in_thread(lambda: store.commit(commit))
                break
            except DatabaseFull as error:
                if not patient:
                    raise
                if not told:
                    log.error("%s. %s", error, error.remedy)
                told = True
                await asyncio.sleep(self.options.full_ms / 1000)
        if told:
            log.warning("%s: there is space again, position %d", self.database, self.position)
        self._pending = None
        self._room.set()
        self._place = commit.place
        self.position = commit.place.sequence
        self._answer_waiters()
        if any(sequence > self.position for sequence, _ in self._waiters):
            self._hurry()

    def _commit(self, snapshot: bool) -> Commit:
        ledger, last, place = self._ledger, self._last, self._place
        beats, telemetry = self._beats.take() if self._beats is not None else ([], 0)
        if last is not None and last.sequence > self._stored_to:
            place = Place(
                ledger.pool.uuid,
                last.sequence,
                message_digest(last),
                self._origin[0],
                self._origin[1],
            )
        saved = None
        due = self._bytes >= max(self.options.snapshot_bytes, 4 * self._saved_bytes)
        if (due or (snapshot and self._bytes)) and place.sequence == ledger.pool.sequence:
            saved = Saved(place.sequence, *save(ledger))
            self._bytes, self._saved_bytes = 0, len(saved.fold) + len(saved.records)
        delta = ledger.take()
        if ledger.pool.sequence <= self._stored_to:
            delta = Delta({}, {})  # the file has these rows
        return Commit(delta, place, saved, beats, telemetry)

    def _hurry(self) -> None:
        """The next commit comes as soon as there is anything to write."""
        self._urgent.set()

    def _answer_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for sequence, future in waiting:
            if future.done():
                continue  # who asked is gone
            if sequence > self.position:
                self._waiters.append((sequence, future))
            else:
                future.set_result(None)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of groups: there is one cause, the rest is its consequence."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
