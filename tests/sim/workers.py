"""The agent's hands: attempts that take virtual time instead of processes. Rule: the agent, its
machine and its writer are the real ones; only what they start is a twin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dtf.core.model import Case, Cause, Verdict
from dtf.worker.attempt import LINED_UP, OVER, RUNNING, Attempt, Ended
from dtf.worker.machine import Machine
from msgspec import Raw

from .loop import NODE
from .workload import Course, course

ANNOUNCE_S = 0.02
KILL_S = 0.05


class Bench:
    """What all the attempts of a simulation do, and what came of them in truth."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.ends: dict[str, tuple[str, str]] = {}
        """Token -> (verdict, cause) as it really ended."""
        self.begun: dict[str, int] = {}
        """Token -> how often it was begun."""
        self.fresh: list[str] = []
        """What was begun since somebody looked."""
        self.in_use: dict[tuple[str, int, str], str] = {}
        """(worker, life, device) -> token that uses it now."""
        self.clashes: list[str] = []

    def begin(self, token: str) -> None:
        """The attempt really begins."""
        self.begun[token] = self.begun.get(token, 0) + 1
        self.fresh.append(token)


BENCH: list[Bench] = []
"""The one of the running world: agents make their hands themselves."""


class _Work:
    """One attempt under way."""

    def __init__(self, shop: Hands, machine: Machine, attempt: Attempt) -> None:
        self.shop, self.machine, self.attempt = shop, machine, attempt
        self.course: Course = course(shop.bench.seed, attempt.token, attempt.spec)
        self.begun = False
        self.killed = False
        self.timers: list[asyncio.TimerHandle] = []
        self.began_s = 0.0

    def begin(self) -> None:
        shop, attempt, loop = self.shop, self.attempt, self.shop.loop
        self.begun, self.began_s = True, loop.time()
        shop.bench.begin(attempt.token)
        shop.take_devices(attempt)
        self.timers.append(loop.call_later(ANNOUNCE_S, self._announce))
        way, wall_s = self.course, attempt.spec.wall_ms / 1000
        if way.seconds <= wall_s or not way.obeys:
            self._end_in(way.seconds, way.verdict, way.cause)
        else:
            self._end_in(wall_s, Verdict.TIMED_OUT, Cause.WALL_LIMIT)
        if way.tells and way.seconds > ANNOUNCE_S:
            self.timers.append(loop.call_later(way.seconds / 2, self._tell))

    def _announce(self) -> None:
        self.machine.announce(self.attempt)
        self.shop.told()

    def _tell(self) -> None:
        self.machine.report(self.attempt, [Case(id="case", verdict=Verdict.PASSED)], [])
        self.shop.told()

    def _end_in(self, seconds: float, verdict: Verdict, cause: Cause) -> None:
        self.timers.append(self.shop.loop.call_later(seconds, self._end, verdict, cause))

    def kill(self) -> None:
        if not self.killed and self.course.obeys:
            self.killed = True
            self._end_in(KILL_S, Verdict.CANCELLED, Cause.CANCELLED)

    def _end(self, verdict: Verdict, cause: Cause) -> None:
        self.drop()
        attempt = self.attempt
        if attempt.cancelled:
            verdict, cause = Verdict.CANCELLED, Cause.CANCELLED
        if attempt.state != OVER:
            self.shop.bench.ends[attempt.token] = (verdict.value, cause.value)
        duration_us = int((self.shop.loop.time() - self.began_s) * 1e6)
        ended = Ended(verdict=verdict, cause=cause, duration_us=duration_us)
        self.machine.finish_all([(attempt, ended)])
        self.shop.look()
        self.shop.told()

    def drop(self) -> None:
        """It is here no more."""
        for timer in self.timers:
            timer.cancel()
        self.shop.works.pop(self.attempt.token, None)
        self.shop.free_devices(self.attempt)


class _Area:
    def open(self) -> None: ...


class Hands:
    """In place of `Workshop`."""

    def __init__(
        self, options: Any, subjects: Any, processes: Any, blobs: Any, output: Any, bundles: Any,
        devices: Any, told: Callable[[], None],
    ) -> None:  # fmt: skip
        life = NODE.get()
        assert life is not None
        self.bench = BENCH[-1]
        self.host = (options.name, life.number)
        self.told = told
        self.loop = asyncio.get_running_loop()
        self.area = _Area()
        self.stopping = False
        self.works: dict[str, _Work] = {}

    def start(self, machine: Machine, attempt: Attempt) -> None:
        work = self.works[attempt.token] = _Work(self, machine, attempt)
        if attempt.state != LINED_UP:
            work.begin()

    def look(self) -> None:
        """Whose turn has come in a slot, begins."""
        for work in list(self.works.values()):
            if not work.begun and work.attempt.state == RUNNING:
                work.begin()

    def kill(self, attempt: Attempt) -> None:
        self.take_back(attempt)
        work = self.works.get(attempt.token)
        if work is not None:
            work.kill()

    def take_back(self, attempt: Attempt) -> None:
        work = self.works.get(attempt.token)
        if work is not None and not work.begun:
            del self.works[attempt.token]
            if attempt.cancelled:
                self.bench.ends[attempt.token] = (Verdict.CANCELLED.value, Cause.CANCELLED.value)
            work.machine.returned(attempt)
            self.look()
            self.loop.call_soon(self.told)

    async def kill_all(self) -> None:
        for work in list(self.works.values()):
            work.drop()

    async def close(self) -> None: ...

    def take_devices(self, attempt: Attempt) -> None:
        for device in attempt.devices:
            place = (*self.host, device)
            other = self.bench.in_use.get(place)
            if other is not None:
                self.bench.clashes.append(f"{attempt.token} and {other} use {place}")
            self.bench.in_use[place] = attempt.token

    def free_devices(self, attempt: Attempt) -> None:
        for device in attempt.devices:
            place = (*self.host, device)
            if self.bench.in_use.get(place) == attempt.token:
                del self.bench.in_use[place]


class InlineHands:
    """In place of `InlineWork`: one after the other."""

    def __init__(self, bundles: Any, told: Callable[[], None]) -> None:
        self.bench = BENCH[-1]
        self.told = told
        self.loop = asyncio.get_running_loop()
        self.line: list[tuple[Machine, Attempt]] = []
        self.busy = False

    def start(self, machine: Machine, attempts: list[Attempt]) -> None:
        self.line += [(machine, attempt) for attempt in attempts]
        if not self.busy:
            self._next()

    def _next(self) -> None:
        self.busy = bool(self.line)
        if self.busy:
            machine, attempt = self.line.pop(0)
            self.bench.begin(attempt.token)
            seconds = course(self.bench.seed, attempt.token, attempt.spec).seconds
            self.loop.call_later(seconds, self._end, machine, attempt, seconds)

    def _end(self, machine: Machine, attempt: Attempt, seconds: float) -> None:
        if attempt.state != OVER:
            verdict = Verdict.CANCELLED if attempt.cancelled else Verdict.PASSED
            cause = Cause.CANCELLED if attempt.cancelled else Cause.DONE
            self.bench.ends[attempt.token] = (verdict.value, cause.value)
        machine.passed(attempt, int(seconds * 1e6), Raw(b"1"))
        self._next()
        machine.finish_all(())
        self.told()

    def take_back(self, machine: Machine, attempt: Attempt) -> None:
        if (machine, attempt) in self.line:
            self.line.remove((machine, attempt))
            if attempt.cancelled:
                self.bench.ends[attempt.token] = (Verdict.CANCELLED.value, Cause.CANCELLED.value)
            machine.returned(attempt)

    def clear(self) -> None:
        self.line.clear()

    def stop(self, timeout_s: float) -> bool:
        self.clear()
        return True


class NoProcesses:
    """In place of `Processes`."""

    def start(self) -> None: ...
    async def close(self) -> None: ...


class NoBundles:
    """In place of `BundleCache`."""

    def __init__(self, *about: object) -> None: ...
