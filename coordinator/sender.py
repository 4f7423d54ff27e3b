"""Sending one wave. Rule: each subject's messages one after another, subjects side by side; a
message without an answer is sent again under its id until it is acknowledged or the leader is
deposed (protocol L5: a time-out is never a no).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..core.codec import MESSAGE_BYTES_MAX, encode_batch, encode_event, join_batch
from ..core.errors import LogUnavailable
from ..core.events import Event
from ..core.ids import random_id
from ..core.ports import Appended, EventLog
from .scheduler import Wave

RESEND_S = 0.1


def pack(events: Sequence[Event], bytes_max: int = MESSAGE_BYTES_MAX) -> list[bytes]:
    """Messages of at most `bytes_max`, in order; a larger single event travels alone."""
    whole = encode_batch(events)
    if len(whole) <= bytes_max:
        return [whole] if events else []
    encoded = [encode_event(event) for event in events]
    messages: list[bytes] = []
    part: list[bytes] = []
    size = 2
    for data in encoded:
        if part and size + len(data) + 1 > bytes_max:
            messages.append(join_batch(part))
            part, size = [], 2
        part.append(data)
        size += len(data) + 1
    if part:
        messages.append(join_batch(part))
    return messages


class WaveSender:
    """One wave on its way. No task a message: acknowledgements come by callback."""

    def __init__(self, log: EventLog, wave: Wave, leads: Callable[[], bool]) -> None:
        self._log = log
        self._wave = wave
        self._leads = leads
        self._left = 0
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()

    async def send(self) -> None:
        """Returns when all is acknowledged or the leader is deposed; raises `AppendRefused`
        (L6)."""
        for subject, events in self._wave:
            messages = pack(events)
            if messages:
                self._left += 1
                messages.reverse()
                self._next(subject, messages)
        if self._left:
            await self._over

    def _next(self, subject: str, messages: list[bytes]) -> None:
        if not messages:
            self._left -= 1
            if not self._left and not self._over.done():
                self._over.set_result(None)
            return
        self._append(subject, messages, messages.pop(), random_id(26), first=True)

    def _append(
        self, subject: str, messages: list[bytes], data: bytes, message_id: str, *, first: bool
    ) -> None:
        if self._over.done():
            return
        if not self._leads():
            self._over.set_result(None)
            return

        def again(new_id: str, again_first: bool) -> None:
            self._append(subject, messages, data, new_id, first=again_first)

        def done(result: Appended | Exception) -> None:
            if isinstance(result, Appended):
                if result.duplicate and first:  # somebody else used our id (F6)
                    again(random_id(26), True)
                else:
                    self._next(subject, messages)
            elif isinstance(result, LogUnavailable):
                self._loop.call_later(RESEND_S, again, message_id, False)
            elif not self._over.done():
                self._over.set_exception(result)

        self._log.append_soon(subject, data, message_id, done)
