"""Where a projection takes up the log again.

Rule: a file goes on only with the very log it came from, checked by its messages (protocol F7);
otherwise it is set aside and the log read from its start.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import LogGap
from ..core.ports import EventLog, Message
from ..core.snapshot import SnapshotCorrupt
from .database import set_aside
from .errors import DatabaseBroken
from .ledger import Ledger
from .memo import load, settle_in
from .store import Place, Store

log = logging.getLogger("dtf.projector")
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class Resumed(NamedTuple):
    """An open file, and the ledger at the snapshot it holds: at `place` or before it."""

    store: Store
    ledger: Ledger
    place: Place
    telemetry: int


def message_digest(message: Message) -> str:
    """What identifies a stored message: subject, time and data; 32 hex digits."""
    found = hashlib.blake2b(message.subject.encode("utf-8", "surrogatepass"), digest_size=16)
    found.update(message.time_ns.to_bytes(8, "big", signed=True))
    found.update(message.data)
    return found.hexdigest()


def open_store(path: Path, pool: str) -> Store:
    """The projection file, new where there was none, it was broken or of another version.

    What it replaces is kept under another name. Raises `DatabaseBusy`, `DatabaseFull` and
    `DatabaseForeign`.
    """
    try:
        store = Store(path, pool)
    except DatabaseBroken as error:
        kept = set_aside(path, "broken")
        log.warning("%s; it is kept as %s and rebuilt from the log", error, kept.name)
        return Store(path, pool)
    if store.outdated:
        return renewed(store, pool, "outdated", "it was written by another version of dtf")
    return store


def renewed(store: Store, pool: str, tag: str, why: str) -> Store:
    """A fresh file in the place of `store`, which is kept under another name."""
    store.close()
    kept = set_aside(store.path, tag)
    log.warning("%s: %s; kept as %s and rebuilt from the log", store.path, why, kept.name)
    return Store(store.path, pool)


async def resume(store: Store, event_log: EventLog, pool: str, in_thread: InThread) -> Resumed:
    """Where to go on. Raises `LogGap` when the log no longer holds what comes next."""
    place: Place = await in_thread(store.place)
    if place.sequence:
        why = await _other_log(place, event_log)
        if why:
            store = await in_thread(lambda: renewed(store, pool, "other-log", why))
            place = Place()
    saved = await in_thread(store.saved)
    telemetry = await in_thread(store.telemetry)
    ledger = Ledger(pool)
    if saved is not None:
        try:
            ledger = load(pool, saved.fold, saved.records)
        except SnapshotCorrupt as error:
            log.warning("%s; folding the log from its start", error)
    first = (await event_log.tail()).first
    if first > ledger.pool.sequence + 1:
        raise LogGap(
            f"the log begins at {first}, this projection needs {ledger.pool.sequence + 1}",
            remedy=f"{store.path} is complete up to {place.sequence}; query it as it is.",
        )
    if ledger.pool.sequence == place.sequence:
        settle_in(ledger)
    return Resumed(store, ledger, place, telemetry)


async def _other_log(place: Place, event_log: EventLog) -> str:
    """Why the log is not the one the file came from, or "" when it is."""
    tail = await event_log.tail()
    if tail.last < place.sequence:
        return f"the log ends at {tail.last}, the file stands at {place.sequence}"
    checks = [(place.sequence, place.message_digest)]
    if place.origin_sequence:
        checks.append((place.origin_sequence, place.origin_digest))
    for sequence, digest in checks:
        message = await event_log.get(sequence)
        if message is not None and message_digest(message) != digest:
            return f"message {sequence} of the log is another one"
    return ""
