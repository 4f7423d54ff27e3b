"""Clocks. Rule: whoever waits for time asks a clock, so that tests own it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Cancellable(Protocol):
    """Something to come that can be called off."""

    def cancel(self) -> object: ...


class SystemClock:
    """The machine's clocks; `call_later` needs a running loop."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def time_ns(self) -> int:
        return time.time_ns()

    def call_later(self, delay_ns: int, callback: Callable[[], None]) -> Cancellable:
        """`callback` is called once, `delay_ns` from now, unless cancelled."""
        return asyncio.get_running_loop().call_later(delay_ns / 1e9, callback)


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Stands still until `advance`; what is due is then called in order of time."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = start_ns
        self._timers: list[tuple[int, int, _Timer]] = []
        self._order = itertools.count()

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return self.now_ns

    def call_later(self, delay_ns: int, callback: Callable[[], None]) -> Cancellable:
        """`callback` is called by the `advance` that reaches it."""
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self.now_ns + delay_ns, next(self._order), timer))
        return timer

    def advance(self, *, ns: int = 0, ms: int = 0, s: int = 0) -> None:
        """Time has passed; every timer up to then was called, at its time."""
        until = self.now_ns + ns + ms * 1_000_000 + s * 1_000_000_000
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            self.now_ns = due
            if timer.callback is not None:
                timer.callback()
        self.now_ns = until
