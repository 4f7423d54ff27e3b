"""What the attempts of one run said so far.

Rule: all of it is provisional until a ruling names the attempt that counts.

Pure. Holds what is open only: an attempt is forgotten once it was ruled on, so the size follows
what runs, not what ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from . import events as e
from .codec import Undecodable
from .ids import split_token
from .model import Case, Cause, Measurement

_IN_BETWEEN = (
    e.AttemptStarted,
    e.CasesReported,
    e.CasesCollected,
    e.ArtifactStored,
    e.AttemptReturned,
)


class Finished(NamedTuple):
    """An attempt's end, as its worker told it."""

    worker: str
    event: e.AttemptFinished
    at: tuple[int, int]
    """Position (sequence, index)."""


class Running(NamedTuple):
    """An attempt that said it started."""

    token: str
    number: int
    worker: str


class Requeued(NamedTuple):
    """The last time a task was put back."""

    number: int
    """The attempt it ended; 0 when the attempt was left open."""
    cause: Cause


class Reports(NamedTuple):
    """Cases and measurements of one attempt."""

    cases: list[Case]
    measurements: list[Measurement]


Listener = Callable[[str, e.AttemptEvent], None]
"""Told the worker and each event of an attempt that is in its order and not closed by a ruling."""


class AttemptsSeen:
    """The open attempts of one run."""

    def __init__(
        self,
        is_open: Callable[[str], bool],
        *,
        keep_reports: bool,
        listener: Listener | None = None,
    ) -> None:
        """`is_open` says whether a task still waits for its ruling."""
        self._is_open = is_open
        self._listener = listener
        self.keep_reports = keep_reports
        self.running: dict[str, Running] = {}
        """By task. Attempts that end at once are never here."""
        self.finished: dict[str, Finished] = {}
        """By token: waiting for a ruling."""
        self.requeued: dict[str, Requeued] = {}
        """By task, while it is not settled."""
        self._next: dict[str, int] = {}
        self._reports: dict[str, Reports] = {}

    def feed(self, worker: str, events: Sequence[e.Event | Undecodable], sequence: int) -> None:
        """Take one message of `worker`. Numbers out of order are void (protocol A2)."""
        for index, event in enumerate(events):
            if type(event) is e.AttemptFinished:
                if event.n == (self._next.pop(event.token, 0) if self._next else 0):
                    self._tell(worker, event)
                    self._finish(Finished(worker, event, (sequence, index)))
            elif isinstance(event, _IN_BETWEEN) and self._is_next(event.token, event.n):
                self._tell(worker, event)
                if isinstance(event, e.AttemptStarted):
                    self._start(worker, event.token)
                elif isinstance(event, e.CasesReported) and self.keep_reports:
                    reports = self._reports.setdefault(event.token, Reports([], []))
                    reports.cases.extend(event.cases)
                    reports.measurements.extend(event.measurements)
                elif isinstance(event, e.AttemptReturned):
                    self.drop(event.token)

    def _tell(self, worker: str, event: e.AttemptEvent) -> None:
        if self._listener is not None:
            named = self._open_number(event.token)
            if named is not None and self._is_open(named[0]):
                self._listener(worker, event)

    def settle(self, task: str, token: str | None, at: tuple[int, int] | None) -> Finished | None:
        """The task is over: what its attempts still do does not count.

        Returns the finish the ruling names, if that is the one seen at `at`.
        """
        if self.running:
            self.running.pop(task, None)
        if self.requeued:
            self.requeued.pop(task, None)
        finished = self.finished.pop(token, None) if token is not None else None
        return finished if finished is None or at is None or finished[2] == at else None

    def take_reports(self, token: str | None) -> Reports:
        """What the attempt reported; forgotten here."""
        return self._reports.pop(token or "", None) or Reports([], [])

    def requeue(self, event: e.TaskRequeued) -> str | None:
        """The task waits again; its id, or None when the token names none."""
        named = split_token(event.token)
        if named is None:
            return None
        self.requeued[named[0]] = Requeued(0 if event.keep_open else named[1], event.cause)
        if not event.keep_open:
            self.drop(event.token)
        return named[0]

    def drop(self, token: str) -> None:
        """The attempt is over without a finish that counts."""
        named = split_token(token)
        if named is not None:
            self._stop(named[0], token)
        self.finished.pop(token, None)
        self._reports.pop(token, None)
        self._next.pop(token, None)

    def busy_tasks(self) -> Iterator[str]:
        """Tasks with an attempt that runs, or that has ended and waits for its ruling.

        May repeat one.
        """
        yield from self.running
        for token in self.finished:
            named = split_token(token)
            if named is not None:
                yield named[0]

    def clear(self) -> None:
        """Nothing is open."""
        for held in (self.running, self.finished, self.requeued, self._next, self._reports):
            held.clear()

    def _is_next(self, token: str, n: int) -> bool:
        if n != self._next.get(token, 0):
            return False
        self._next[token] = n + 1
        return True

    def _open_number(self, token: str) -> tuple[str, int] | None:
        """(task, number) of the token, unless a requeue closed that attempt."""
        named = split_token(token)
        if named is None:
            return None
        requeued = self.requeued.get(named[0])
        return None if requeued is not None and named[1] <= requeued.number else named

    def _start(self, worker: str, token: str) -> None:
        named = self._open_number(token)
        if named is not None and self._is_open(named[0]):
            self.running[named[0]] = Running(token, named[1], worker)

    def _finish(self, finished: Finished) -> None:
        token = finished.event.token
        if self.requeued or self.running:
            named = self._open_number(token)
            if named is None:
                return
            self._stop(named[0], token)
        self.finished[token] = finished

    def _stop(self, task: str, token: str) -> None:
        running = self.running.get(task)
        if running is not None and running.token == token:
            del self.running[task]
