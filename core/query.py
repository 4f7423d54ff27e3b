"""Asking the query service.

Rule: read-only SQL in, one table out, within the caller's limits; no answer is said, not hidden.

A request is one message on the pool's query subject; the reply is one or more, the last marked so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from .adapters.nats_client import Connection
from .errors import QueryRefused, Unavailable

GRACE_S = 2.0
"""How much longer than its own limit a query may take to answer."""
_REMEDY = "Start one: `dtf projector run`, or `dtf up` for a whole pool on this machine."


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. `params` are JSON values for the placeholders of `sql`."""

    sql: str
    params: Sequence[Any] = ()
    rows_max: int = 10_000
    timeout_ms: int = 10_000
    at_least: int = 0
    """Log sequence the projection must have reached: so a caller reads its own writes."""


class QueryError(msgspec.Struct, frozen=True):
    """Why a query was refused or stopped."""

    code: str = ""
    message: str = ""
    remedy: str = ""


class QueryReply(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an answer; `columns` and `types` are the same in each."""

    columns: list[str] = []
    types: list[str] = []
    rows: list[list[Any]] = []
    last: bool = True
    truncated: bool = False
    error: QueryError | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `truncated`: there were more rows than asked for."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool = False


_decode_reply = msgspec.json.Decoder(QueryReply).decode


async def ask_query(connection: Connection, subject: str, request: QueryRequest) -> Table:
    """The whole answer. Raises `QueryRefused` (with the service's words) and `Unavailable` (no
    service, no answer).
    """
    replies: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()

    def on_reply(_subject: bytes, _reply: bytes, data: bytes, headers: bytes | None) -> None:
        replies.put_nowait((data, headers or b""))

    inbox = connection.new_inbox()
    listening = connection.listen(inbox, on_reply)
    try:
        if not connection.send(subject, msgspec.json.encode(request), inbox):
            raise Unavailable(f"no connection to {connection.options.url}", remedy="Try again.")
        async with asyncio.timeout(request.timeout_ms / 1000 + GRACE_S):
            return await _collect(replies, subject)
    except TimeoutError:
        raise Unavailable(
            f"the query service on {subject} gave no whole answer in {request.timeout_ms} ms",
            remedy="Ask for less, or raise the time limit.",
        ) from None
    finally:
        connection.unlisten(listening)


async def _collect(replies: asyncio.Queue[tuple[bytes, bytes]], subject: str) -> Table:
    rows: list[list[Any]] = []
    while True:
        data, headers = await replies.get()
        if not data and headers.startswith(b"NATS/1.0 503"):
            raise Unavailable(f"no query service answers on {subject}", remedy=_REMEDY)
        try:
            reply = _decode_reply(data)
        except msgspec.DecodeError as problem:
            raise Unavailable(
                f"the answer on {subject} is not readable: {problem}",
                remedy="Use the same version of dtf on both sides.",
            ) from None
        if reply.error is not None:
            raise QueryRefused(reply.error.message, remedy=reply.error.remedy)
        rows += reply.rows
        if reply.last:
            return Table(
                columns=reply.columns, types=reply.types, rows=rows, truncated=reply.truncated
            )
