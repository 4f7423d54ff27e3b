"""Live output of tests (`-s`). Rule: whole lines only, each with the worker it came from."""

from __future__ import annotations

from typing import Any

from .seen import OutputSeen

LINE_MAX = 64 * 1024
"""Characters without a line end after which a piece of a line is shown."""


class LiveLines:
    """Lines of all workers, in the order of their ends."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal
        self._parts: dict[str, str] = {}
        self._lines: list[str] = []

    def add(self, seen: OutputSeen) -> None:
        """More output of a shard; its last line counts as whole when nothing more comes."""
        text = self._parts.pop(seen.task, "") + seen.text
        *lines, rest = text.split("\n")
        if rest and (seen.last or len(rest) > LINE_MAX):
            lines.append(rest)
        elif rest:
            self._parts[seen.task] = rest
        self._lines += [f"[{seen.worker or seen.task}] {line}" for line in lines]

    def flush(self) -> None:
        """Every whole line is on the terminal."""
        lines, self._lines = self._lines, []
        if self._terminal is not None:
            for line in lines:
                self._terminal.write_line(line)
