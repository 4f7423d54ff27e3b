"""The NATS parser, with a short way for messages.

Rule: whatever is not a whole message goes to nats-py's own parser.

nats-py matches two regular expressions and awaits two coroutines for each message; here a message
costs a split and a call. Half-arrived messages stay in the buffer until they are whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nats.protocol.parser import AWAITING_CONTROL_LINE, MAX_CONTROL_LINE_SIZE, Parser

if TYPE_CHECKING:
    from .safe_client import SafeClient

Deliver = Callable[[int, bytes, bytes, bytes, bytes | None], bool]


class FastParser(Parser):
    """Drop-in for `nats.protocol.parser.Parser`."""

    nc: SafeClient

    def reset(self) -> None:
        super().reset()
        self._needed = 0
        """Length of the buffer at which its first message is whole: until then there is nothing to
        do.
        """

    async def parse(self, data: bytes = b"") -> None:
        """Everything that is whole was delivered. Raises what nats-py's parser raises."""
        if self.state != AWAITING_CONTROL_LINE:
            await super().parse(data)
            return
        self.buf += data
        if len(self.buf) < self._needed:
            return
        while self.buf:
            if not self.buf.startswith((b"MSG ", b"HMSG ")):
                await super().parse()
                return
            if not await self._messages():
                return

    async def _messages(self) -> bool:
        """Deliver whole messages from the front of the buffer; False when the next one is not whole
        yet.
        """
        buffer = self.buf
        whole = bytes(buffer)
        start, size, deliver = 0, len(whole), self.nc.deliver
        more, self._needed = True, 0
        try:
            while start < size:
                has_headers = whole.startswith(b"HMSG ", start)
                if not has_headers and not whole.startswith(b"MSG ", start):
                    break
                end_of_line = whole.find(b"\r\n", start, start + MAX_CONTROL_LINE_SIZE)
                if end_of_line < 0:
                    more = False
                    break
                words = whole[start:end_of_line].split()
                body = end_of_line + 2
                end = body + int(words[-1])
                if end + 2 > size:
                    more, self._needed = False, end + 2 - start
                    break
                payload = body + int(words[-2]) if has_headers else body
                headers = whole[body:payload] if has_headers else None
                reply = words[3] if len(words) == (6 if has_headers else 5) else b""
                start = end + 2
                message = (int(words[2]), words[1], reply, whole[payload:end], headers)
                if not deliver(*message):
                    await self.nc._process_msg(*message)
        finally:
            del buffer[:start]  # not self.buf: a reconnect may have replaced it
        return more
