"""Who runs in a slot, and who waits behind. Rule: the line moves by itself while its attempts are
short.
"""

from __future__ import annotations

from .running import Awaited, Running

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

    Waiting = tuple[int, dict[str, Any]]


SHORT = 3
"""A line no longer than this wants more."""


class Lines:
    """Slots by number: the attempt that runs in it, and orders in line."""

    def __init__(self) -> None:
        self.holders: dict[int, Running | Awaited] = {}
        self._lines: dict[int, list[Waiting]] = {}

    @property
    def long(self) -> bool:
        """Whether there is a line, and none is about to run out."""
        return bool(self._lines) and all(len(line) > SHORT for line in self._lines.values())

    def clear(self) -> None:
        """Nobody waits; who runs, runs."""
        self._lines.clear()

    def add(self, slot: int, key: int, order: dict[str, Any]) -> None:
        """The order is the last in line."""
        self._lines.setdefault(slot, []).append((key, order))

    def next(self, slot: int) -> Waiting | None:
        """The first in line leaves it, when nobody runs in the slot."""
        if slot in self.holders or slot not in self._lines:
            return None
        line = self._lines[slot]
        first = line.pop(0)
        if not line:
            del self._lines[slot]
        return first

    def drop(self, key: int) -> bool:
        """Whether the order was in line; it is no more."""
        for slot, line in self._lines.items():
            for place, (waiting, _) in enumerate(line):
                if waiting == key:
                    del line[place]
                    if not line:
                        del self._lines[slot]
                    return True
        return False

    def break_up(self, slot: int) -> list[int]:
        """All orders in line leave it; their keys."""
        return [key for key, _ in self._lines.pop(slot, ())]
