"""From judged messages to rows.

Rule: rows are a function of the log alone; when and how often they are written changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.codec import Undecodable, encode_event
from ..core.events import Event
from ..core.fold import NO_VOIDS, Judged
from ..core.ports import Message
from ..core.state import digest
from ..core.subjects import Subject
from .attempts import on_assign, on_attempt
from .ledger import Ledger
from .members import on_leader, on_pool, on_worker
from .records import INDEX_BITS, Row
from .rulings import close_by_ruling, on_ruling
from .submissions import on_run

Handler = Callable[[Ledger, Judged, Subject, int, int], None]
HANDLERS: dict[str, Handler] = {
    "run": on_run,
    "assign": on_assign,
    "attempt": on_attempt,
    "worker": on_worker,
    "ruling": on_ruling,
    "pool": on_pool,
    "leader": on_leader,
}
VOID_ROWS_MAX = 256
"""Void events of one message that get a row each; the rest share one: hostile input stays small."""
DIGEST_EVERY = 10_000
"""The state's digest is a row at every sequence divisible by this (protocol F9)."""


def feed(ledger: Ledger, message: Message) -> None:
    """The next message is folded, and what it tells is in the ledger.

    Raises `FoldVersionError` (the ledger then stands before this message).
    """
    judged = ledger.fold.apply(message)
    base, us = message.sequence << INDEX_BITS, message.time_ns // 1000
    if judged.voids is not NO_VOIDS:
        ledger.facts["voids"] += void_rows(judged, base, us)
    subject = judged.subject
    if subject is not None:
        HANDLERS[subject.kind](ledger, judged, subject, base, us)
        if len(ledger.attempts) != len(ledger.pool.open):
            close_by_ruling(ledger, judged, base, us)
    if message.sequence % DIGEST_EVERY == 0:
        ledger.facts["digests"].append((message.sequence, digest(ledger.pool)))


def void_rows(judged: Judged, base: int, us: int) -> list[Row]:
    """A row for each void event; of very many, the last row stands for the rest."""
    message, subject = judged.message, judged.subject
    where = (message.subject[:256], *(part or None for part in subject or ("", "", "")))
    rows: list[Row] = []
    rest: dict[str, int] = {}
    rest_at = 0
    for index, (event, reason) in enumerate(zip(judged.events, judged.voids, strict=False)):
        if not reason:
            continue
        if len(rows) < VOID_ROWS_MAX:
            rows.append((*where, *_described(event, reason), 1, base | index, us))
        else:
            rest_at = rest_at or index
            rest[reason] = rest.get(reason, 0) + 1
    if rest:
        detail = ", ".join(f"{reason}: {count}" for reason, count in sorted(rest.items()))
        rows.append((*where, None, "more", detail[:256], sum(rest.values()), base | rest_at, us))
    return rows


def _described(event: Event | Undecodable, reason: str) -> tuple[str | None, str, str]:
    if isinstance(event, Undecodable):
        return None, reason, event.detail
    return type(event).__name__, reason, encode_event(event)[:256].decode("utf-8", "ignore")
