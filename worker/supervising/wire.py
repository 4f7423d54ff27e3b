"""A control socket to a warm process. Rule: it never waits; frames may be sent to a process that
does not exist yet.
"""

from __future__ import annotations

import _socket
import marshal
import os
import select

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

FRAME_BYTES_MAX = 1 << 20
"""No answer of a warm process is longer; one that says so is not to be believed."""


class Wire:
    """Our end of the socket. `other` is the end to be handed over, then closed here."""

    def __init__(self, poll: select.poll) -> None:
        self._socket, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self.other = other.detach()
        self.fd = self._socket.fileno()
        self.open = True
        self._poll = poll
        self._inbox = bytearray()
        self._outbox: list[tuple[bytes, tuple[int, ...]]] = []
        """What the socket has no room for yet; the descriptors are ours to close."""
        poll.register(self.fd, select.POLLIN)

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent."""
        return not self._outbox

    def tell(self, *frame: object, fds: tuple[int, ...] = ()) -> None:
        """The frame is on its way; descriptors with it are closed here, whatever comes of it."""
        data = marshal.dumps(frame)  # type: ignore[arg-type]
        self._outbox.append((len(data).to_bytes(4, "little") + data, fds))
        if len(self._outbox) == 1:
            self.flush()

    def flush(self) -> None:
        """What waits is sent, as far as there is room."""
        outbox = self._outbox
        while outbox and self.open:
            data, fds = outbox[0]
            try:
                sent = self._send(data, fds)
            except BlockingIOError:
                self._poll.modify(self.fd, select.POLLIN | select.POLLOUT)
                return
            except OSError:  # it died; reading says so too
                sent = len(data)
            for fd in fds:
                os.close(fd)
            if sent < len(data):
                outbox[0] = data[sent:], ()
            else:
                del outbox[0]
                if not outbox:
                    self._poll.modify(self.fd, select.POLLIN)

    def _send(self, data: bytes, fds: tuple[int, ...]) -> int:
        if not fds:
            return self._socket.send(data)
        packed = b"".join(fd.to_bytes(4, "little") for fd in fds)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
        return self._socket.sendmsg([data], rights)

    def hear(self) -> list[tuple[Any, ...]]:
        """The frames that have arrived whole; `open` is False after the last one of all."""
        while self.open:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.close()
            self._inbox += data
            if len(data) < 1 << 16:
                break
        return self._frames()

    def _frames(self) -> list[tuple[Any, ...]]:
        frames: list[tuple[Any, ...]] = []
        inbox = self._inbox
        while len(inbox) >= 4:
            end = 4 + int.from_bytes(inbox[:4], "little")
            if end > FRAME_BYTES_MAX:
                self.close()
                inbox.clear()
            if len(inbox) < end:
                break
            try:
                frame = marshal.loads(inbox[4:end])  # noqa: S302 (see below)
            except (EOFError, ValueError, TypeError):
                frame = ()
            if isinstance(frame, tuple) and frame:
                frames.append(frame)
            del inbox[:end]
        return frames

    def shut_other(self) -> None:
        """The other end is no longer open here."""
        if self.other >= 0:
            os.close(self.other)
            self.other = -1

    def close(self) -> None:
        """Nothing of it is open here. Idempotent."""
        self.shut_other()
        if self.open:
            self.open = False
            self._poll.unregister(self.fd)
            self._socket.close()
            for _, fds in self._outbox:
                for fd in fds:
                    os.close(fd)
            self._outbox.clear()
