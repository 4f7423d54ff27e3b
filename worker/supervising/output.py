"""The output of one attempt: kept up to a limit, its end always, and shown live within measure.

Rule: the pipe is always emptied; neither a full disk nor a slow watcher holds up the task.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

TAIL_BYTES = 4096
LIVE_BYTES_MAX = 64 * 1024
"""Most live output between two sendings; the rest is stored, not shown."""
READ_BYTES = 64 * 1024


class Output:
    """What came through a pipe so far. `at` is when the last of it did."""

    def __init__(self, pipe: int, path: str, bytes_max: int, now: int) -> None:
        self.pipe = pipe
        self.at = now
        self.bytes = 0
        self.stored = 0
        """Bytes in the file at `path`; there is none before `head` outgrows its place."""
        self.error = ""
        """Why not all could be stored."""
        self.head = bytearray()
        """What came after the bytes in the file: all of it, while it is small."""
        self.tail = b""
        self.live = bytearray()
        self.dropped = 0
        """Bytes that came before `live` and are not in it."""
        self._path = path
        self._bytes_max = bytes_max
        self._file = -1

    def read(self, now: int) -> bool:
        """Takes what the pipe holds, at most 1 MiB in one go; False at its end."""
        for _ in range(16):
            try:
                data = os.read(self.pipe, READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.take(data, now)
            if len(data) < READ_BYTES:
                return True
        return True

    def take(self, data: bytes, now: int) -> None:
        """More output."""
        self.bytes += len(data)
        self.at = now
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        room = self._bytes_max - self.stored - len(self.head)
        if room > 0:
            self.head += data[:room]
            if len(self.head) > TAIL_BYTES:
                self._store()
        live_room = LIVE_BYTES_MAX - len(self.live)
        self.live += data[:live_room]
        self.dropped += max(0, len(data) - live_room)

    def take_live(self) -> tuple[bytes, int]:
        """(bytes to show, bytes before them that are not shown) since the last time."""
        piece = bytes(self.live), self.dropped
        self.live.clear()
        self.dropped = 0
        return piece

    def drop_live(self) -> None:
        """Nobody is shown what is new; it is counted."""
        self.dropped += len(self.live)
        self.live.clear()

    def close(self) -> None:
        """The file holds what it can hold, and nothing is open."""
        if self.stored:
            self._store()
        for fd in (self._file, self.pipe):
            if fd >= 0:
                os.close(fd)
        self._file = self.pipe = -1

    def facts(self) -> dict[str, Any]:
        return {
            "output_bytes": self.bytes,
            "stored": self.stored,
            "store_error": self.error,
            "head": bytes(self.head),
            "tail": self.tail,
        }

    def _store(self) -> None:
        """What was only in memory is in the file, as far as the disk takes it."""
        try:
            if self._file < 0 and not self.error:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            while self.head and not self.error:
                count = os.write(self._file, self.head)
                self.stored += count
                del self.head[:count]
        except OSError as error:
            self.error = str(error)
        self.head.clear()
