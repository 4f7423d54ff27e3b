"""The control socket. Rule: it never waits; what the agent is too slow for is kept, live output
excepted.
"""

from __future__ import annotations

import marshal
import os
import select

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

NEVER = 1 << 62
COALESCE_NS = 10_000_000
"""Ends wait this long for company, while enough short attempts are in line: waking the agent costs
more than one of them.
"""
BACKLOG_MAX = 4 * 1024 * 1024
"""Bytes waiting for a slow agent, above which live output is dropped."""


class Channel:
    """Frames to and from the agent over one descriptor."""

    def __init__(self, fd: int, poll: select.poll) -> None:
        self.fd = fd
        self.open = True
        self.flush_at = NEVER
        self._poll = poll
        self._inbox = bytearray()
        self._outbox = bytearray()
        os.set_blocking(fd, False)
        poll.register(fd, select.POLLIN)

    @property
    def crowded(self) -> bool:
        """The agent is slow."""
        return len(self._outbox) > BACKLOG_MAX

    def receive(self, flags: int) -> list[tuple[Any, ...]]:
        """The frames that have arrived whole; `open` is False after the last one of all."""
        if flags & select.POLLOUT:
            self.flush()
        if not flags & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return []
        try:
            data = os.read(self.fd, 1 << 20)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.close()
        self._inbox += data
        return self._frames()

    def _frames(self) -> list[tuple[Any, ...]]:
        frames = []
        inbox = self._inbox
        while len(inbox) >= 4:
            end = 4 + int.from_bytes(inbox[:4], "little")
            if len(inbox) < end:
                break
            frames.append(marshal.loads(inbox[4:end]))  # noqa: S302 (written by our own agent)
            del inbox[:end]
        return frames

    def close(self) -> None:
        """Nobody is told anything any more."""
        if self.open:
            self.open = False
            self.flush_at = NEVER
            self._outbox.clear()
            self._poll.unregister(self.fd)

    def tell(self, frame: tuple[Any, ...], now: int, *, soon: bool) -> None:
        """The frame is on its way: at once, or a little later together with others."""
        if not self.open:
            return
        data = marshal.dumps(frame)
        was_empty = not self._outbox
        self._outbox += len(data).to_bytes(4, "little") + data
        if not soon:
            self.flush_at = min(self.flush_at, now + COALESCE_NS)
        elif was_empty or self.flush_at != NEVER:
            self.flush()

    def flush(self) -> None:
        """What waits is sent, as far as the agent takes it now."""
        self.flush_at = NEVER
        if not self.open:
            return
        try:
            while self._outbox:
                del self._outbox[: os.write(self.fd, self._outbox)]
        except BlockingIOError:
            pass
        except OSError:  # it died; reading says so too
            self._outbox.clear()
        self._poll.modify(self.fd, select.POLLIN | (select.POLLOUT if self._outbox else 0))
