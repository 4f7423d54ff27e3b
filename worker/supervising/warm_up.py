"""What idle slots do. Rule: a slot idle for half a second makes ready what it used last; work comes
first.
"""

from __future__ import annotations

import time

from .channel import NEVER
from .kin import Host
from .lines import Lines
from .parents import Parents
from .running import MS

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    from typing import Any

AFTER_NS = 500 * MS


class WarmUp:
    """Plans by slot: when, and for which order."""

    def __init__(self, parents: Parents, lines: Lines) -> None:
        self._parents = parents
        self._lines = lines
        self._plans: dict[int, tuple[int, dict[str, Any]]] = {}

    def plan(self, host: Host) -> None:
        """The parent of what the host ran is there soon, with the files it ran collected."""
        if host.order["warm"].get("start") != "spawn":
            self._plans[host.slot] = time.monotonic_ns() + AFTER_NS, host.order

    def cancel(self, slot: int) -> None:
        """The slot has work."""
        self._plans.pop(slot, None)

    def clear(self) -> None:
        self._plans.clear()

    def due(self) -> int:
        return min((at for at, _ in self._plans.values()), default=NEVER)

    def on_time(self, now: int) -> None:
        for slot, (at, order) in list(self._plans.items()):
            if now >= at:
                del self._plans[slot]
                if slot not in self._lines.holders:
                    warm = order["warm"]
                    self._parents.warm_up(warm["chain"], file_names(warm["work"]), now)


def file_names(work: dict[str, Any]) -> list[str]:
    """The files a piece of work names: `files` is a list of {"path": ...}."""
    files = work.get("files") or []
    return [each["path"] for each in files if isinstance(each, dict) and "path" in each]
