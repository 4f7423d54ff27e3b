"""The leader's back-up for limits a worker should have kept. Rule: 10 % and 5 s later than the
worker (protocol A7).

Durations count from when this leader first saw the attempt started, so a new leader starts them
again; no wall clock.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.state import Pool

MARGIN_S = 5.0
MARGIN_PART = 1.1
OBEY_S = 10.0
"""After the grace, how long a worker may take to end an attempt it was told to end."""


class Overdue(NamedTuple):
    """Tokens to kill, and (worker, incarnation) pairs that did not obey."""

    kill: list[str]
    disobeyed: list[tuple[str, str]]


class Limits:
    """Ages of the started attempts, as this leader sees them."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def check(self, pool: Pool, now: float) -> Overdue:
        """What is overdue at `now` (monotonic seconds). Call about once a second; cost follows the
        open attempts."""
        kill: list[str] = []
        disobeyed: list[tuple[str, str]] = []
        since: dict[str, float] = {}
        told: dict[str, float] = {}
        for token, attempt in pool.open.items():
            if attempt.orphaned or not attempt.started:
                continue
            spec = attempt.task.group.spec
            start = since[token] = self._since.get(token, now)
            if now - start < spec.wall_ms / 1000 * MARGIN_PART + MARGIN_S:
                continue
            asked = told[token] = self._told.get(token, now)
            if asked == now:
                kill.append(token)
            elif now - asked > spec.grace_ms / 1000 + OBEY_S:
                disobeyed.append((attempt.worker, attempt.incarnation))
        self._since, self._told = since, told
        return Overdue(kill, disobeyed)
