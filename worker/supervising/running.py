"""One attempt while its first process runs, and what is due for it. Rule: a record; it does
nothing.
"""

from __future__ import annotations

from .channel import NEVER
from .output import Output
from .table import boot_ticks

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

MS = 1_000_000
ANNOUNCE_NS = 20 * MS
"""A shorter attempt is told by its end alone, without output chunks."""
LISTEN_NS = 3 * MS
"""The output of a shorter attempt is read once, at its end; a pipe holds 64 KiB."""
LIVE_NS = 50 * MS
SAMPLE_NS = 1_000 * MS
MEMORY_SAMPLE_NS = 50 * MS
"""Time between two looks at an attempt with a limit on its memory."""


class Awaited:
    """An attempt whose process has not said hello. It holds its slot."""

    announced = False
    why = ""

    def __init__(self, key: int, slot: int) -> None:
        self.key = key
        self.slot = slot


class Running:
    """One attempt: its first process, its output, its limits. Times are monotonic nanoseconds."""

    def __init__(self, key: int, order: dict[str, Any], pid: int, pipe: int, now: int) -> None:
        self.key = key
        self.slot: int = order["slot"]
        self.pid = pid
        self.output = Output(pipe, order["output_path"], order["output_max"], now)
        self.scratch: str = order["scratch"]
        self.began = now
        self.began_ticks = boot_ticks()
        self.ended = 0
        """When its first process ended; 0 while it runs."""
        self.status = 0
        self.why = ""
        """Why we end it: "wall", "silence", "memory", "killed"; "" while we do not."""
        self.wall_at = now + order["wall_ns"]
        self.silence_ns: int = order["silence_ns"]
        self.grace_ns: int = order["grace_ns"]
        self.memory_max: int = order["memory_bytes"]
        self.kill_at = NEVER
        self.gone_by = NEVER
        self.listening = False
        """Its output is read as it comes."""
        self.announced = False
        self.live_at = NEVER
        self.cpu_us = 0
        self.peak_rss = 0
        self.sample_ns = MEMORY_SAMPLE_NS if self.memory_max else SAMPLE_NS
        self.sample_at = now + self.sample_ns
        self.known: dict[int, int] = {}
        """Its processes when last looked at: pid -> start time."""
        self.left = 0
        """Processes that outlived the first one and were killed."""
        self.start = ""
        """How its process came to be: "" for commands; else fork, became, host or spawn."""
        self.note = ""

    def due(self) -> int:
        """When it must be looked at next."""
        if self.ended:
            return min(self.kill_at, self.gone_by)
        due = min(self.kill_at, self.live_at, self.sample_at)
        if not self.announced:
            due = min(due, self.began + (ANNOUNCE_NS if self.listening else LISTEN_NS))
        if not self.why:
            due = min(due, self.wall_at)
            if self.silence_ns:
                due = min(due, self.output.at + self.silence_ns)
        return due

    def limit(self, now: int) -> str:
        """The limit it has passed, or ""."""
        if self.why:
            return ""
        if now >= self.wall_at:
            return "wall"
        if self.silence_ns and now >= self.output.at + self.silence_ns:
            return "silence"
        return ""
