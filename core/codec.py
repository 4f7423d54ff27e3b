"""Bytes and events.

Rule: a message is a JSON array of one writer's events; one bad element never voids its neighbour.

JSON, not msgpack: any language and `nats sub` can read and write it. Rules F2 and F14 of the
protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Union, get_args

import msgspec
from msgspec import Raw

from .events import AnyEvent, Event, LogEvent, TelemetryEvent
from .model import ABSENT

MESSAGE_BYTES_MAX = 256 * 1024
"""Most bytes of one message a writer of ours makes, and the bound for the leader (protocol L6)."""
BATCH_EVENTS_MAX = 500

_encoder = msgspec.json.Encoder()
_log = msgspec.json.Decoder(list[LogEvent])
_log_one = msgspec.json.Decoder(LogEvent)
_telemetry = msgspec.json.Decoder(list[TelemetryEvent])
_raws = msgspec.json.Decoder(list[Raw])


class Undecodable(msgspec.Struct, frozen=True):
    """An element that is no event: void.

    `reason` is `not_json` or `malformed`; `detail` says where (at most 256).
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


def _decode_one(raw: bytes | Raw) -> LogEvent | Undecodable:
    try:
        event: LogEvent = _log_one.decode(raw)
        return event
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Undecodable("malformed", str(error)[:256])


def decode_batch(data: bytes) -> Sequence[LogEvent | Undecodable]:
    """The events of a log message, each judged alone at its index.

    Never raises: what is not JSON is one Undecodable. A top-level object is a batch of one.
    Duplicate keys: the last wins, as in every JSON parser we met.
    """
    try:
        return _log.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        elements = _raws.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return [Undecodable("not_json", str(error)[:256])]
        return [_decode_one(data)]
    return [_decode_one(raw) for raw in elements]


def decode_telemetry(data: bytes) -> Sequence[TelemetryEvent]:
    """Heartbeats or output chunks of one message; garbage gives none: telemetry decides nothing."""
    try:
        return _telemetry.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _describable(kind: type[Event]) -> type[msgspec.Struct]:
    """`kind` itself, or, where a default is `ABSENT`, a twin that a schema can be made of."""
    fields = msgspec.structs.fields(kind)
    if not any(field.default is ABSENT for field in fields):
        return kind
    twins: list[tuple[str, Any, Any]] = []
    for field in fields:
        kept, default = field.type, field.default
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
        tag=kind.__name__,
    )


def event_schema() -> dict[str, object]:
    """JSON Schema (2020-12) of every event: {"$defs": {...}, "anyOf": [...]}."""
    kinds = [_describable(kind) for kind in get_args(AnyEvent)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dtf events",
        **msgspec.json.schema(Union[tuple(kinds)]),  # noqa: UP007  # built at run time
    }
