"""Who is alive, told from heartbeats alone. Rule: loss needs the leader's own beat, sent a full
limit after the worker's last one and read back through the same stream, and a full limit since this
leader was elected (protocol W5).

Pure: server timestamps come in with the messages, so a leader that was itself blocked declares
nobody lost.
"""

from __future__ import annotations

import msgspec

from ..core.events import Heartbeat
from ..core.state import Pool

SILENCE_MS = 4_000
"""A worker silent for this long is lost: four beats. A frozen one is replaced within five
seconds."""


class Connection(msgspec.Struct, frozen=True):
    """A broker connection: the server's id and the client's number on it."""

    server_id: str
    client_id: int


class Liveness:
    """Last beats of the pool's workers."""

    def __init__(self, pool: Pool, silence_ms: int = SILENCE_MS) -> None:
        self.pool = pool
        self.silence_ns = silence_ms * 1_000_000
        self._last: dict[str, tuple[str, int]] = {}
        """Worker -> (incarnation, server time of its newest beat, or of first notice)."""
        self._connections: dict[str, tuple[str, Connection]] = {}
        self._elected_ns: int | None = None
        self._absent: dict[str, int] = {}
        """Token -> beats in a row that did not name it although they were sent after its
        assignment."""

    def elected(self, time_ns: int) -> None:
        """This coordinator leads since `time_ns` (server clock): everyone gets a full limit from
        here."""
        self._elected_ns = time_ns
        self._last.clear()
        self._absent.clear()

    def beat(self, worker: str, beat: Heartbeat, time_ns: int) -> list[str]:
        """Take a worker's beat; returns tokens that now look never received (W4), to be confirmed
        by the caller."""
        known = self.pool.workers.get(worker)
        if known is None or known.incarnation != beat.incarnation:
            return []
        self._last[worker] = (beat.incarnation, time_ns)
        if beat.server_id is not None and beat.client_id is not None:
            connection = Connection(beat.server_id, beat.client_id)
            self._connections[worker] = (beat.incarnation, connection)
        return self._unreceived(worker, beat)

    def _unreceived(self, worker: str, beat: Heartbeat) -> list[str]:
        held = {entry.rpartition("/")[2] for entry in beat.held}
        suspects = []
        for token, attempt in self.pool.open.items():
            if attempt.worker != worker or attempt.incarnation != beat.incarnation:
                continue
            if token in held or attempt.orphaned or attempt.assigned_at > beat.sequence:
                self._absent.pop(token, None)
                continue
            missed = self._absent[token] = self._absent.get(token, 0) + 1
            if missed >= 2:
                suspects.append(token)
        if len(self._absent) > len(self.pool.open):
            self._absent = {t: n for t, n in self._absent.items() if t in self.pool.open}
        return suspects

    def own_beat(self, time_ns: int) -> list[tuple[str, str]]:
        """The leader's own beat was read back: the (worker, incarnation) pairs that are lost by
        silence."""
        if self._elected_ns is None:
            return []
        # The server's clock was set back: limits count from here, not from a time yet to come.
        self._elected_ns = min(self._elected_ns, time_ns)
        if time_ns - self._elected_ns < self.silence_ns:
            return []
        lost = []
        for name, worker in self.pool.workers.items():
            if worker.ended:
                self._last.pop(name, None)
                continue
            last = self._last.get(name)
            if last is None or last[0] != worker.incarnation or last[1] > time_ns:
                self._last[name] = (worker.incarnation, time_ns)
            elif time_ns - last[1] >= self.silence_ns:
                lost.append((name, worker.incarnation))
        return lost

    def disconnected(self, gone: Connection) -> tuple[str, str] | None:
        """The (worker, incarnation) whose current connection this was, or None (W6)."""
        for name, worker in self.pool.workers.items():
            if worker.ended:
                continue
            beat = self._connections.get(name)
            join = worker.join
            if beat is not None and beat[0] == worker.incarnation:
                current: Connection | None = beat[1]
            elif join.server_id is not None and join.client_id is not None:
                current = Connection(join.server_id, join.client_id)
            else:
                current = None
            if current == gone:
                return name, worker.incarnation
        return None
