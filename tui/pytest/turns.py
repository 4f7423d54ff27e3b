"""In which order results are shown. Rule: file by file, as they come; a file that stands still does
not hold up those that are complete.

Pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
PATIENCE_S = 0.5
"""How long the file in turn may give nothing before complete files are shown in between."""


class Turns(Generic[T]):
    """Results waiting for their file's turn."""

    def __init__(self, files: list[str]) -> None:
        self._rank = {file: place for place, file in enumerate(files)}
        self._waiting: dict[str, list[T]] = {}
        self._open: set[str] = set(files)
        self._turn: str | None = None
        self._moved_s = 0.0

    def add(self, file: str, result: T) -> None:
        """One more result of a file."""
        self._waiting.setdefault(file, []).append(result)

    def close(self, file: str) -> None:
        """The file is complete."""
        self._open.discard(file)

    def close_all(self) -> None:
        """Nothing more comes."""
        self._open.clear()

    def take(self, now_s: float) -> Iterator[T]:
        """Every result that may be shown now, in order."""
        if self._turn is not None and self._waiting.get(self._turn):
            self._moved_s = now_s
        yield from self._current()
        while self._turn is None and self._waiting:
            self._turn = min(self._waiting, key=self._order)
            self._moved_s = now_s
            yield from self._current()
        if self._turn is not None and now_s - self._moved_s > PATIENCE_S:
            for file in sorted(set(self._waiting) - self._open, key=self._order):
                yield from self._waiting.pop(file)

    def _current(self) -> Iterator[T]:
        """The results of the file in turn; its turn is over when it is complete."""
        if self._turn is None:
            return
        yield from self._waiting.pop(self._turn, ())
        if self._turn not in self._open:
            self._turn = None

    def _order(self, file: str) -> tuple[bool, int]:
        """Complete files first, then in the order of collection."""
        return file in self._open, self._rank.get(file, len(self._rank))
