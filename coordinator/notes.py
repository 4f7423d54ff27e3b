"""What a leader noticed and has not ruled upon. Rule: plain data; facts go in, rulings take out.

Everything here is derived from the fold, so a new leader makes it again from any state.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from ..core.events import Event
from ..core.model import Cause
from ..core.state import Attempt, Group, Run, Task
from .queue import Lane


class Notes:
    """What waits for the next wave, and the timers that will add to it."""

    def __init__(self) -> None:
        self.finished: list[Task] = []
        self.returned: list[Task] = []
        self.closing: list[tuple[Attempt, Cause]] = []
        """Attempts that ended without a word."""
        self.ruled: set[str] = set()
        """Tokens whose loss is ruled upon, or about to be."""
        self.complete: dict[str, Run] = {}
        """Runs to settle."""
        self.invalid: dict[str, Run] = {}
        self.cancelled: dict[str, Run] = {}
        self.cancelled_tasks: list[tuple[Run, str]] = []
        self.over_limit: list[tuple[Run, Group]] = []
        """Groups past their queue limit."""
        self.homeless: list[Lane] = []
        """Requirements no living worker could ever meet, past the grace."""
        self.replies: list[tuple[str, Event]] = []
        """(run, event): what publishers are told, and keys to forget."""
        self.lost: dict[str, tuple[str, str]] = {}
        """Worker -> (incarnation, reason)."""
        self.revoke: dict[str, tuple[Attempt, str]] = {}
        """Token -> (attempt, mode)."""
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_count = 0

    def stop(self, attempt: Attempt) -> None:
        """Ask for the end of an attempt, unless that was asked or its worker is gone."""
        if attempt.revoked != "cancel" and not attempt.orphaned:
            self.revoke[attempt.token] = (attempt, "cancel")

    def close(self, attempt: Attempt, cause: Cause) -> None:
        """Rule once upon an attempt that ended without a word."""
        if attempt.token not in self.ruled:
            self.ruled.add(attempt.token)
            self.closing.append((attempt, cause))

    def after(self, now: float, delay_ms: int, action: Callable[[], None]) -> None:
        """`action` is called by the first `ring` at or past `now` + `delay_ms` (seconds, ms)."""
        self._timer_count += 1
        heapq.heappush(self._timers, (now + delay_ms / 1000, self._timer_count, action))

    def ring(self, now: float) -> None:
        """Call what is due."""
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def next_timer(self) -> float | None:
        """When something is due, by the clock of `now`; None when nothing is."""
        return self._timers[0][0] if self._timers else None
