"""How far a projection has come, and who waits for it to come further."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.errors import DtfError


class Reached:
    """The position of the file. One event loop."""

    def __init__(self) -> None:
        self.position = 0
        self.hurry: Callable[[], None] = lambda: None
        """Called when somebody waits: then the next commit should come at once."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._end: Callable[[], DtfError] | None = None

    async def wait(self, sequence: int) -> None:
        """Returns once the position is at `sequence` or beyond; raises the error of `end`."""
        if self.position >= sequence:
            return
        if self._end is not None:
            raise self._end()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((sequence, future))
        self.hurry()
        await future

    def move(self, position: int) -> None:
        """The position is `position`: further, or back where a file is made anew."""
        self.position = position
        waiting, self._waiting = self._waiting, []
        for sequence, future in waiting:
            if future.done():
                continue  # who asked is gone
            if sequence <= position:
                future.set_result(None)
            else:
                self._waiting.append((sequence, future))
        if self._waiting:
            self.hurry()

    def end(self, error: Callable[[], DtfError]) -> None:
        """Nobody moves it any more: who waits, now or later, gets an error."""
        self._end = error
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error())
