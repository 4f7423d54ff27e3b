"""Bytes and events.

Rule: a message is a JSON array of one writer's events; one bad element never voids its neighbour.

JSON, not msgpack: any language and `nats sub` can read and write it. Rules F2 and F14 of the
protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import Raw

from .events import AnyEvent, Event, LogEvent, TelemetryEvent
from .model import ABSENT
from .nesting import DEPTH_MAX, nests_deeper, openings, without_deep

MESSAGE_BYTES_MAX = 256 * 1024
"""Most bytes of one message a writer of ours makes, and the bound for the leader (protocol L6)."""
BATCH_EVENTS_MAX = DEPTH_MAX - 1
"""Most events of one message a writer of ours makes. With one more, two brackets in each would be
as many as a message with a too deep element has at least, and every reader would look closer."""
EVENTS_MAX = 10_000
"""Most elements of one message that are looked at; a message with more is void as a whole."""

_encoder = msgspec.json.Encoder()
_log = msgspec.json.Decoder(list[LogEvent])
_log_one = msgspec.json.Decoder(LogEvent)
_telemetry = msgspec.json.Decoder(list[TelemetryEvent])
_raws = msgspec.json.Decoder(list[Raw])


class Undecodable(msgspec.Struct, frozen=True):
    """An element that is no event: void.

    `reason` is `not_json`, `malformed` or `too_many`; `detail` says where (at most 256) and is for
    people: it may differ between versions of the parser.
    """

    reason: str
    detail: str


def encode_event(event: Event) -> bytes:
    """One event as a JSON object."""
    return _encoder.encode(event)


def encode_batch(events: Sequence[Event]) -> bytes:
    """The events as one message, in order."""
    return _encoder.encode(events)


def join_batch(encoded: Iterable[bytes]) -> bytes:
    """One message from events that are encoded already."""
    return b"[" + b",".join(encoded) + b"]"


def _malformed(error: Exception) -> Undecodable:
    return Undecodable("malformed", str(error)[:256])


def _decode_one(raw: bytes | Raw) -> LogEvent | Undecodable:
    try:
        text = bytes(raw)
        if not text.isascii():
            text.decode()  # the parser does not look into what it passes through
        event: LogEvent = _log_one.decode(text)
        return event
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _malformed(error)


def _decode_each(data: bytes) -> Sequence[LogEvent | Undecodable]:
    """Element by element: some are no events. Too deep elements are taken out before the parser
    sees them, so that the stack of the caller decides nothing."""
    if nests_deeper(data, DEPTH_MAX):
        data = without_deep(data, DEPTH_MAX)
    try:
        elements = _raws.decode(data)
    except msgspec.DecodeError:
        try:
            msgspec.json.decode(data, type=Raw)
        except msgspec.DecodeError as error:
            return [Undecodable("not_json", str(error)[:256])]
        return [_decode_one(data)]
    if len(elements) > EVENTS_MAX:
        return [_too_many(len(elements))]
    return [_decode_one(raw) for raw in elements]


def _too_many(events: int) -> Undecodable:
    return Undecodable("too_many", f"{events} events in one message, at most {EVENTS_MAX} count")


def decode_batch(data: bytes) -> Sequence[LogEvent | Undecodable]:
    """The events of a log message, each judged alone at its index (protocol F2).

    What is not JSON, or has more than `EVENTS_MAX` elements, is one Undecodable. A top-level object
    is a batch of one. Duplicate keys: the last wins, as in every JSON parser we met. The answer
    follows from the bytes alone; nothing is raised, given a stack with `DEPTH_MAX` levels left.
    """
    try:
        events = _log.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_each(data)
    if len(events) > EVENTS_MAX:
        return [_too_many(len(events))]
    # A deep element has as many brackets, beyond the one that every event has.
    if (
        len(data) > 2 * DEPTH_MAX
        and openings(data) > DEPTH_MAX + len(events)
        and nests_deeper(data, DEPTH_MAX + 1)
    ):
        return _decode_each(data)
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return _decode_each(data)
    return events


def decode_telemetry(data: bytes) -> Sequence[TelemetryEvent]:
    """Heartbeats or output chunks of one message; garbage gives none: telemetry decides nothing."""
    try:
        return _telemetry.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


@cache
def _describable(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """`kind` itself, or, where a default is `ABSENT`, a twin that a schema can be made of."""
    fields = msgspec.structs.fields(kind)
    kinds = [_describable_type(field.type) for field in fields]
    same = all(kept is field.type for kept, field in zip(kinds, fields, strict=True))
    if same and not any(field.default is ABSENT for field in fields):
        return kind
    twins: list[tuple[str, Any, Any]] = []
    for kept, field in zip(kinds, fields, strict=True):
        default = field.default
        if default is ABSENT:
            kept, default = msgspec.UnsetType | Any, msgspec.UNSET
        elif field.default_factory is not msgspec.NODEFAULT:
            default = msgspec.field(default_factory=field.default_factory)
        twins.append((field.name, kept, default))
    return msgspec.defstruct(
        kind.__name__,
        twins,
        namespace={"__doc__": kind.__doc__},
        kw_only=True,
        tag=kind.__name__ if issubclass(kind, Event) else None,
    )


def _describable_type(kind: Any) -> Any:
    """The type of a field: a list of records may need a list of their twins."""
    inner = get_args(kind)
    if get_origin(kind) is not list or not isinstance(inner[0], type):
        return kind
    if not issubclass(inner[0], msgspec.Struct):
        return kind
    twin = _describable(inner[0])
    return kind if twin is inner[0] else list[twin]  # type: ignore[valid-type]


def event_schema() -> dict[str, object]:
    """JSON Schema (2020-12) of every event: {"$defs": {...}, "anyOf": [...]}."""
    kinds = [_describable(kind) for kind in get_args(AnyEvent)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dtf events",
        **msgspec.json.schema(Union[tuple(kinds)]),  # noqa: UP007  # built at run time
    }
