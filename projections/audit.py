"""The log itself, event by event, with what does not count and why.

Rule: every reader judges alike: what is shown as void here is void for the coordinator, too. So the
log is folded from its start, whatever part of it is shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from msgspec import Struct, structs

from ..core.codec import Undecodable, encode_event
from ..core.events import WRITERS, Event
from ..core.fold import Fold, Judged
from ..core.ports import EventLog
from ..core.subjects import Subjects

SUMMARY_CHARACTERS = 400
KINDS = tuple(sorted(kind.__name__ for kinds in WRITERS.values() for kind in kinds))
"""Names of the event types, as `--kinds` takes them."""


class Line(Struct, frozen=True):
    """One event of the log. `void` is "" where it counts; `type` is "" for what is no event."""

    sequence: int
    index: int
    time_ns: int
    subject: str
    type: str
    void: str
    content: str
    """The event's fields as JSON without the type, or what is wrong with it; bounded."""


async def read_lines(
    event_log: EventLog,
    pool: str,
    *,
    first: int | None = None,
    last: int = 50,
    kinds: frozenset[str] = frozenset(),
    follow: bool = False,
) -> AsyncIterator[Line]:
    """Events from sequence `first` on, else the last `last`; with `follow`, new ones for ever.

    `kinds`: only these types; all when empty.
    """
    fold, prefix = Fold(pool), Subjects(pool).prefix
    end = (await event_log.tail()).last
    if end == 0 and not follow:
        return
    recent: deque[Judged] = deque(maxlen=last)
    async with aclosing(event_log.read([], 0, name="audit")) as batches:
        async for batch in batches:
            for message in batch:
                judged = fold.apply(message)
                here = message.sequence >= first if first is not None else message.sequence > end
                if here:
                    for line in _lines(judged, prefix, kinds):
                        yield line
                elif first is None and last and any(True for _ in _lines(judged, prefix, kinds)):
                    recent.append(judged)
                if message.sequence == end:
                    held = [line for each in recent for line in _lines(each, prefix, kinds)]
                    for line in held[-last:] if last else []:
                        yield line
                    recent.clear()
            if not follow and batch[-1].sequence >= end:
                return


def _lines(judged: Judged, prefix: str, kinds: frozenset[str]) -> Iterator[Line]:
    message = judged.message
    for index, (event, void) in enumerate(zip(judged.events, judged.voids, strict=False)):
        name = "" if isinstance(event, Undecodable) else type(event).__name__
        if kinds and name not in kinds:
            continue
        yield Line(
            message.sequence, index, message.time_ns, message.subject.removeprefix(prefix), name,
            void, content(event),
        )  # fmt: skip


def content(event: Event | Undecodable) -> str:
    """What the event says, in at most `SUMMARY_CHARACTERS`."""
    if isinstance(event, Undecodable):
        return event.detail
    text = encode_event(event).decode("utf-8", "replace")
    tag = f'{{"type":"{type(event).__name__}"'
    text = "{" + text.removeprefix(tag).lstrip(",") if text.startswith(tag) else text
    if len(text) > SUMMARY_CHARACTERS:
        return text[: SUMMARY_CHARACTERS - 3] + "..."
    return text


def as_object(line: Line) -> dict[str, Any]:
    """The line for programs: `void` is None where the event counts."""
    told = structs.asdict(line)
    told["void"] = line.void or None
    told["type"] = line.type or None
    return told
