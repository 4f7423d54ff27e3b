"""Asking a coordinator how long the cases of a suite last.

Rule: whoever asks gets on without an answer; durations only make a run faster.

A request is one message on the pool's durations subject; the reply is one or more, the last marked
so, a file possibly spread over several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from .adapters.nats_client import Connection

ANSWER_S = 0.5
"""How long the first part of an answer may take."""
PART_S = 2.0
"""How long each further part may take."""


class DurationsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: a history and a class of hardware."""

    history: str
    hardware: str


class DurationsReply(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an answer: file -> {case id: microseconds}."""

    files: dict[str, dict[str, int]] = {}
    last: bool = True


_decode = msgspec.json.Decoder(DurationsReply).decode


def replies(known: Iterable[tuple[str, Mapping[str, int]]], bytes_max: int) -> Iterator[bytes]:
    """The messages of an answer, of about `bytes_max` or less each; at least one."""
    part: dict[str, dict[str, int]] = {}
    size = 0
    for path, cases in known:
        part[path] = {}
        size += len(path) + 8
        for case_id, us in cases.items():
            if size > bytes_max:
                yield msgspec.json.encode(DurationsReply(files=part, last=False))
                part, size = {path: {}}, len(path) + 8
            part[path][case_id] = us
            size += 3 * len(case_id) // 2 + 16
    yield msgspec.json.encode(DurationsReply(files=part))


async def ask_durations(
    connection: Connection, subject: str, request: DurationsRequest
) -> dict[str, dict[str, int]]:
    """The whole answer; {} when nobody answers, or not in time, or not readably."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    def on_reply(_subject: bytes, _reply: bytes, data: bytes, _headers: bytes | None) -> None:
        arrived.put_nowait(data)

    inbox = connection.new_inbox()
    listening = connection.listen(inbox, on_reply)
    files: dict[str, dict[str, int]] = {}
    limit_s = ANSWER_S
    try:
        if not connection.send(subject, msgspec.json.encode(request), inbox):
            return {}
        while True:
            async with asyncio.timeout(limit_s):
                reply = _decode(await arrived.get())  # empty when no coordinator listens
            limit_s = PART_S
            for path, cases in reply.files.items():
                files.setdefault(path, {}).update(cases)
            if reply.last:
                return files
    except (TimeoutError, msgspec.DecodeError):
        return {}
    finally:
        connection.unlisten(listening)
