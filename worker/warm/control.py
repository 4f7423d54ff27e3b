"""The program's end of a control socket. Rule: it waits; there is nothing else to do meanwhile."""

from __future__ import annotations

import _socket
import marshal
import os

TYPE_CHECKING = False  # importing typing takes 4 ms
if TYPE_CHECKING:
    from typing import Any

READ_BYTES = 64 * 1024
FDS_MAX = 64
ANCILLARY = _socket.CMSG_SPACE(4 * FDS_MAX)
CLOSE_ON_EXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)


class Control:
    """Frames of one socket in turn, and the descriptors that came with them."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self.fd = fd
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._inbox = bytearray()
        self._fds: list[int] = []

    def next(self) -> tuple[Any, ...] | None:
        """The next frame; None once nobody is at the other end."""
        inbox = self._inbox
        while len(inbox) < 4 or len(inbox) < 4 + int.from_bytes(inbox[:4], "little"):
            try:
                data, around, _, _ = self._socket.recvmsg(READ_BYTES, ANCILLARY, CLOSE_ON_EXEC)
            except OSError:
                return None
            for level, kind, raw in around:
                if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                    self._fds += memoryview(raw[: len(raw) // 4 * 4]).cast("i").tolist()
            if not data:
                return None
            inbox += data
        end = 4 + int.from_bytes(inbox[:4], "little")
        frame: tuple[Any, ...] = marshal.loads(inbox[4:end])  # noqa: S302 (from our supervisor)
        del inbox[:end]
        return frame

    def take(self, count: int) -> list[int]:
        """The descriptors of the frame that came last."""
        taken, self._fds = self._fds[:count], self._fds[count:]
        return taken

    def tell(self, *frame: object) -> bool:
        """Whether the other end has the frame."""
        data = marshal.dumps(frame)  # type: ignore[arg-type]
        try:
            self._socket.sendall(len(data).to_bytes(4, "little") + data)
        except OSError:  # nobody is there
            return False
        return True

    def close(self) -> None:
        """Nothing of the socket is open here, nor anything that came through it unasked for."""
        self._socket.close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
