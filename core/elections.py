"""Who leads, as the log tells it.

Rule: an election is valid iff its term follows the last valid one (protocol L1).

Pure. For readers that do not fold the whole log: a client that follows one run, an agent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from . import events as e
from .codec import Undecodable, decode_batch
from .evolve import STEPS
from .fold import SERVER_HEADERS
from .ports import Message
from .state import Pool
from .subjects import Subject

_SUBJECT = Subject("leader", "", "")


def is_forged(message: Message) -> bool:
    """Whether the server itself wrote this message at somebody's request: void (protocol F5)."""
    headers = message.headers
    return bool(headers) and any(name.lower() in SERVER_HEADERS for name in headers or ())


class Elections:
    """The newest valid election, judged by the fold's own step.

    `term` is 0 before the log's first, None when the log was not read from there.
    """

    def __init__(self, term: int | None = None, fold_version: int = 0) -> None:
        self._known = term is not None
        self._pool = Pool("")
        self._pool.term, self._pool.fold_version = term or 0, fold_version

    @property
    def term(self) -> int | None:
        return self._pool.term if self._known else None

    @property
    def fold_version(self) -> int:
        return self._pool.fold_version

    def take(self, events: Sequence[e.Event | Undecodable]) -> None:
        """Judge the events of the next leader message; where no term is known, the first one seen
        is believed.

        Raises `FoldVersionError` for a leader whose fold is newer than this program's (protocol
        F4).
        """
        for event in events:
            if isinstance(event, e.LeaderElected):
                if not self._known:
                    self._pool.term = event.term - 1
                valid = not STEPS[e.LeaderElected](self._pool, _SUBJECT, event, 0, 0)
                self._known = self._known or valid

    def allow(self, term: int) -> bool:
        """Whether a ruling of that term counts here (protocol F11)."""
        return not self._known or term >= self._pool.term


class ElectionHistory:
    """Every valid election up to `until`, so that a reader may start anywhere before it."""

    def __init__(self, subject: str, *, whole: bool = True) -> None:
        """`subject`: where elections are; `whole`: the log still begins with its first message."""
        self.subject = subject
        self.until = 0
        """Log sequence up to which every election is known."""
        self._start = 0 if whole else None
        self._newest = Elections(self._start)
        self._sequences: list[int] = []
        self._found: list[tuple[int, int]] = []

    def feed(self, messages: Iterable[Message], until: int) -> None:
        """Take messages in log order that hold every election in (`self.until`, `until`]; others
        are passed over.
        """
        for message in messages:
            if message.sequence <= self.until or message.subject != self.subject:
                continue
            if not is_forged(message):
                self._newest.take(decode_batch(message.data))
            if self._newest.term is not None:
                self._sequences.append(message.sequence)
                self._found.append((self._newest.term, self._newest.fold_version))
        self.until = max(self.until, until)

    def before(self, sequence: int) -> Elections:
        """The newest valid election before that sequence, which must not be above `until` + 1."""
        index = bisect_left(self._sequences, sequence)
        return Elections(*self._found[index - 1]) if index else Elections(self._start)
