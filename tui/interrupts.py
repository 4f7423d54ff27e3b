"""Ctrl-C while a run goes on. Rule: once cancels the run and waits for what is settled; twice ends.

SIGTERM counts as Ctrl-C, so that a CI job that is stopped leaves a settled run behind.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_signals(callback: Callable[[], None]) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM call `callback` from the loop; afterwards as before.

    Handlers are put back by hand: loops differ in what they leave behind (uvloop the default
    action of the system, which would end the process without any clean-up).
    """
    if sys.platform == "win32":  # no loop handlers there: Ctrl-C ends the command
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


class Interrupts:
    """Counts interruptions of the current task; use as a context manager around it.

    The first one starts `first()` beside the task, the second cancels the task, which then ends
    with `KeyboardInterrupt`.
    """

    def __init__(self, first: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.count = 0
        self._first = first
        self._begun: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._signals = on_signals(self.interrupt)

    def __enter__(self) -> Interrupts:
        self._task = asyncio.current_task()
        self._signals.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._signals.__exit__(None, None, None)
        if self._begun is not None and not self._begun.done():
            self._begun.cancel()
        if self.count > 1 and isinstance(error, asyncio.CancelledError):
            raise KeyboardInterrupt from error

    def interrupt(self) -> None:
        """One more interruption."""
        self.count += 1
        if self.count == 1:
            self._begun = asyncio.get_running_loop().create_task(self._first(), name="cancel")
        elif self.count == 2 and self._task is not None:
            self._task.cancel()
