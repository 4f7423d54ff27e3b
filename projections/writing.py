"""One life of a projection file, from opening to closing: messages in, transactions out.

Rule: a commit is taken from the ledger once and tried until it is known to be in the file; nothing
is taken after it before that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from ..core.ports import Message
from .beats import BeatReader
from .errors import DatabaseBroken, DatabaseFull
from .ledger import Delta
from .memo import save
from .reached import Reached
from .resume import Resumed, message_digest
from .rows import feed
from .store import Commit, Place, Saved

log = logging.getLogger("dtf.projector")
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class ProjectorOptions:
    """When to write. The defaults suit a pool that also wants its own results soon."""

    commit_ms: int = 500
    """Longest wait of a row for its commit while many come."""
    trickle_ms: int = 1000
    """The same while few come, without a pause: a commit costs 10 ms of CPU however small it is."""
    trickle_rows: int = 1000
    """Fewer waiting rows are a trickle."""
    idle_ms: int = 200
    """The log counts as idle after so long without a message."""
    rest_ms: int = 200
    """The same when no run is open: nothing more is to be expected."""
    rows_max: int = 20_000
    """Rows of one commit, so that a busy log's last commit, for which somebody may wait, is short;
    four times as many may wait before reading stops."""
    held_bytes_max: int = 32 * 1024 * 1024
    """The same in bytes of log: rows can be large."""
    beats_ms: int = 1000
    """Longest wait of a heartbeat."""
    snapshot_bytes: int = 8 * 1024 * 1024
    """Log read between two snapshots, at least; four times the last snapshot when that is more."""
    slice_events: int = 500
    """Events folded before others on the event loop get their turn."""
    full_ms: int = 2000
    """Wait before a commit is tried again that found the disk full."""


class Writing:
    """What was read and is not yet in the file, and when it gets there."""

    def __init__(
        self,
        resumed: Resumed,
        options: ProjectorOptions,
        beats: BeatReader | None,
        reached: Reached,
        in_thread: InThread,
    ) -> None:
        self.damage: DatabaseBroken | None = None
        """What a reader met in the file."""
        self._store = resumed.store
        self._ledger = resumed.ledger
        self._options = options
        self._beats = beats
        self._reached = reached
        self._in_thread = in_thread
        self._place = resumed.place
        self._origin = (resumed.place.origin_sequence, resumed.place.origin_digest)
        self._stored_to = resumed.place.sequence
        """Up to here the file had the rows before this start: they are folded, not written."""
        self._last: Message | None = None
        self._fed = 0
        """Messages fed; moves whenever something arrives."""
        self._bytes = 0
        """Bytes of log since the last snapshot."""
        self._saved_bytes = 0
        self._held_bytes = 0
        """Bytes of log behind the rows that wait."""
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._pending: Commit | None = None
        """Taken from the ledger, and not known to be in the file."""
        reached.hurry = self._urgent.set
        reached.move(resumed.place.sequence)

    # -- in ----------------------------------------------------------------------------------------
    def feed(self, message: Message) -> None:
        """The message is in the ledger; what the file has already is not kept there."""
        ledger = self._ledger
        feed(ledger, message)
        self._last = message
        self._fed += 1
        self._bytes += len(message.data)
        self._held_bytes += len(message.data)
        if not self._origin[0] and ledger.pool.uuid:
            self._origin = (message.sequence, message_digest(message))
        if message.sequence > self._stored_to:
            self._work.set()
        elif message.sequence == self._stored_to or self._fed % 64 == 0:
            ledger.take()

    async def breathe(self) -> None:
        """Others on the loop had their turn, and there is room for more rows."""
        rows_max, bytes_max = self._options.rows_max, self._options.held_bytes_max
        waiting = self._ledger.waiting
        if waiting >= rows_max or self._held_bytes >= bytes_max:
            self._urgent.set()
        if waiting >= 4 * rows_max or self._held_bytes >= 4 * bytes_max:
            self._room.clear()
            await self._room.wait()
        else:
            await asyncio.sleep(0)

    def distrust(self, damage: DatabaseBroken) -> None:
        """The next thing `commits` does is to raise `damage`."""
        if self.damage is None:
            self.damage = damage
            self._work.set()
            self._urgent.set()

    # -- out ---------------------------------------------------------------------------------------
    async def commits(self, prepared: Awaitable[None]) -> None:
        """Write until cancelled: when the log is idle, somebody waits, or rows get old or many.

        Not before the file is `prepared`, whose error is raised here.
        """
        await prepared
        while True:
            await self._something()
            await self._linger()
            if self.damage is not None:
                raise self.damage
            await self._write(patient=True)

    async def leave(self, *, snapshot: bool) -> None:
        """What was read is in the file, if the disk takes it; not interrupted by a cancel.

        `snapshot`: with one of the fold as it stands, so that the next start is quick; without, the
        fold is not to be kept.
        """
        with anyio.CancelScope(shield=True):
            try:
                if self._pending is not None:
                    await self._write()
                await self._write(snapshot=snapshot)
            except (DatabaseFull, DatabaseBroken) as error:
                log.warning("%s; it will be written at the next start", error)

    async def _something(self) -> None:
        """Returns when there is something to write: news of the log, or heartbeats of some age."""
        while not self._work.is_set():
            with anyio.move_on_after(self._options.beats_ms / 1000):
                await self._work.wait()
            if self._beats is not None and self._beats.rows:
                return

    async def _linger(self) -> None:
        """Returns when the log is idle, somebody waits, or the commit is due."""
        options, clock = self._options, asyncio.get_running_loop().time
        started = clock()
        while not self._urgent.is_set():
            few = self._ledger.waiting < options.trickle_rows
            due = started + (options.trickle_ms if few else options.commit_ms) / 1000
            idle = options.idle_ms if self._ledger.runs else options.rest_ms
            seen = self._fed
            with anyio.move_on_after(min(idle / 1000, due - clock())):
                await self._urgent.wait()
            if self._fed == seen or clock() >= due:
                return

    async def _write(self, *, patient: bool = False, snapshot: bool | None = None) -> None:
        """Everything fed is in the file. `patient`: a full disk is waited for."""
        self._work.clear()
        self._urgent.clear()
        if self._pending is None:
            self._pending = self._take(snapshot)
        commit = self._pending
        await self._stored(commit, patient)
        self._pending = None
        self._room.set()
        self._place = commit.place
        self._reached.move(commit.place.sequence)

    async def _stored(self, commit: Commit, patient: bool) -> None:
        told = False
        while True:
            try:
                with anyio.CancelScope(shield=True):  # whether it worked must be known
                    await self._in_thread(lambda: self._store.commit(commit))
                break
            except DatabaseFull as error:
                if not patient:
                    raise
                if not told:
                    log.error("%s. %s", error, error.remedy)
                told = True
                await asyncio.sleep(self._options.full_ms / 1000)
        if told:
            log.warning("%s: there is space again", self._store.path)

    def _take(self, snapshot: bool | None) -> Commit:
        """The next transaction. `snapshot`: True with one, False without, None when it is due."""
        ledger, last, place = self._ledger, self._last, self._place
        beats, telemetry = self._beats.take() if self._beats is not None else ([], 0)
        if last is not None and last.sequence > self._stored_to:
            place = Place(ledger.pool.uuid, last.sequence, message_digest(last), *self._origin)
        if snapshot is None:
            due = max(self._options.snapshot_bytes, 4 * self._saved_bytes)
            snapshot = self._bytes >= due
        saved = None
        if snapshot and self._bytes and place.sequence == ledger.pool.sequence:
            saved = Saved(place.sequence, *save(ledger))
            self._bytes, self._saved_bytes = 0, len(saved.fold) + len(saved.records)
        delta = ledger.take()
        self._held_bytes = 0
        if ledger.pool.sequence <= self._stored_to:
            delta = Delta({}, {})  # the file has these rows
        return Commit(delta, place, saved, beats, telemetry)
