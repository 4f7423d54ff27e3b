"""In-process attempts between the machine and the lane. Rule: all that is said to the machine is
said in the loop.

The lane's thread runs them; their code is here before they are in line; one that takes long is
announced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..core.errors import DtfError
from ..core.model import Cause, Verdict
from .attempt import RUNNING, Attempt, Ended
from .bundles import BundleCache
from .machine import Machine
from .runners.inline import InlineLane, Result

ANNOUNCE_S = 0.02


class InlineWork:
    """The lane as the agent sees it. `told` is called when the machine has new instructions."""

    def __init__(self, bundles: BundleCache, told: Callable[[], None]) -> None:
        self._bundles = bundles
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._lane = InlineLane(self._wake, bundles.here)
        self._woken = False
        self._ticking: asyncio.TimerHandle | None = None
        self._fetching: set[asyncio.Task[None]] = set()

    def start(self, machine: Machine, attempts: list[Attempt]) -> None:
        """The attempts are in line, or will be once their code is here."""
        wanted = {attempt.spec.bundle for attempt in attempts} - {None}
        missing = [digest for digest in wanted if digest and not self._bundles.here(digest)]
        if missing:
            task = asyncio.create_task(self._fetch(machine, attempts, missing), name="bundle")
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)
            return
        self._lane.start(attempts)
        if self._ticking is None:
            self._ticking = self._loop.call_later(ANNOUNCE_S, self._tick)

    def take_back(self, machine: Machine, attempt: Attempt) -> None:
        """An attempt whose turn has not come is returned; of any other nothing is said."""
        if self._lane.take_back(attempt):
            machine.returned(attempt)

    def clear(self) -> None:
        """Nobody is in line any more; who runs, runs on and is not heard."""
        for task in self._fetching:
            task.cancel()
        self._lane.clear()

    def stop(self, timeout_s: float) -> bool:
        """Whether the thread has ended; one that a task holds dies with the process."""
        self.clear()
        if self._ticking is not None:
            self._ticking.cancel()
        return self._lane.stop(timeout_s)

    async def _fetch(self, machine: Machine, attempts: list[Attempt], digests: list[str]) -> None:
        """The attempts are in line, less those whose code cannot be had. It is kept from now on."""
        for digest in digests:
            try:
                await self._bundles.take_patiently(digest)
            except (DtfError, OSError) as error:
                ended = Ended(
                    verdict=Verdict.ERROR,
                    cause=Cause.SETUP,
                    duration_us=0,
                    message=f"bundle {digest}: {error}"[:4096],
                )
                machine.finish_all([(a, ended) for a in attempts if a.spec.bundle == digest])
        waiting = [attempt for attempt in attempts if attempt.state == RUNNING]
        if waiting:
            self.start(machine, waiting)
        self._told()

    def _wake(self) -> None:
        """Called from the lane's thread: results wait."""
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._take_results)
            except RuntimeError:  # the loop is closed: the agent is gone
                return

    def _take_results(self) -> None:
        self._woken = False
        results = self._lane.results
        machine: Machine | None = None
        while results:
            result = results.popleft()
            if type(result) is tuple:
                attempt, duration_us, value = result
                machine = attempt.machine
                machine.passed(attempt, duration_us, value)
            else:
                machine = self._take_result(result)  # type: ignore[arg-type]
        if machine is not None:
            machine.finish_all(())
            self._told()

    def _take_result(self, result: Result) -> Machine:
        attempt = result.attempt
        machine = attempt.machine
        if result.report is not None:
            for cases, measurements, truncated in result.report.take():
                machine.report(attempt, cases, measurements, truncated)
        machine.finish(attempt, result.ended)
        return machine

    def _tick(self) -> None:
        """From time to time while the lane works: a task that takes long is announced."""
        self._ticking = None
        if self._lane.idle:
            return
        current, since_ns = self._lane.current, self._lane.current_since_ns
        long = time.perf_counter_ns() - since_ns > ANNOUNCE_S * 1e9
        if current is not None and long and not current.announced:
            current.machine.announce(current)
            self._told()
        self._ticking = self._loop.call_later(ANNOUNCE_S, self._tick)
