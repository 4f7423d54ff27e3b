"""An event loop that owns time, and nodes that can be stopped, thawed and killed.

Rule: nothing waits for real; when nobody has anything to do, time jumps to the next timer.

A node is a `Life`: every task, timer and callback it makes carries it in its context. The loop
holds back what a stopped node would do, and throws away what a killed one would have done, so that
kill -9 and SIGSTOP may come between any two steps.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any


class Life:
    """One life of a process, from its start to its kill."""

    def __init__(self, name: str, number: int, rng: random.Random) -> None:
        self.name = name
        self.number = number
        """Lives of this name before this one."""
        self.rng = rng
        """For random ids, so that what one node draws never shifts another's."""
        self.dead = False
        self.stopped = False
        self.held: list[asyncio.Handle] = []
        """What it will do once it goes on."""
        self.failure: BaseException | None = None
        """What ended its main task."""

    def __repr__(self) -> str:
        return f"{self.name}#{self.number}"


NODE: ContextVar[Life | None] = ContextVar("NODE", default=None)


class Stuck(Exception):
    """Nobody will ever do anything again."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Callbacks in the order they came, timers in the order of their time."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._clock_resolution = 1e-9
        self.steps = 0
        self.set_task_factory(_quiet_task)
        self.errors: list[BaseException] = []
        self.set_exception_handler(self._note)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.errors.append(error)

    def time(self) -> float:
        return self._now

    def _process_events(self, event_list: object) -> None:
        """There are no files here."""

    def _write_to_self(self) -> None:
        """Nobody is outside."""

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> Any:
        """Threads would bring an order of their own: the work is done here and now."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def start(self, life: Life, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """The main task of a node."""
        context = copy_context()
        context.run(NODE.set, life)
        task = self.create_task(work, context=context)

        def ended(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and task.exception() is not None:
                life.failure = task.exception()

        task.add_done_callback(ended)
        return task

    def go_on(self, life: Life) -> None:
        """A stopped node continues: what came meanwhile happens now, in order."""
        life.stopped = False
        held, life.held = life.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]

    def run_while(self, more: Callable[[], bool], until: float) -> None:
        """Turn while `more()`, at most up to `until` (virtual seconds). Raises `Stuck`."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while more() and self._now < until:
                self._turn()
        finally:
            events._set_running_loop(before)

    def _turn(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Stuck(f"nothing to do at {self._now:.3f} s")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life = handle._context.get(NODE)
            if life is not None:
                if life.dead:
                    continue
                if life.stopped:
                    life.held.append(handle)
                    continue
            self.steps += 1
            handle._run()


def _quiet_task(
    loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None, **more: Any
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context, **more)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # killed on purpose
    return task
