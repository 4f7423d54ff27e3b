"""What idle slots do. Rule: a slot idle for half a second makes ready what it used last; work comes
first.
"""

from __future__ import annotations

import time

from .channel import NEVER
from .kin import Host
from .lines import Lines
from .parents import PARENTS_MAX, Parents
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
        self._files: dict[str, dict[str, None]] = {}
        """What was run below a parent, by its id: the next run may want all of it here."""

    def plan(self, host: Host) -> None:
        """The parent of what the host ran is there soon, with the files it ran collected."""
        warm = host.order["warm"]
        if warm.get("start") == "spawn":
            return
        self._plans[host.slot] = time.monotonic_ns() + AFTER_NS, host.order
        files = self._files.pop(warm["chain"][-1]["id"], {})
        files.update(dict.fromkeys(file_names(warm["work"])))
        self._files[warm["chain"][-1]["id"]] = files  # the newest last
        while len(self._files) > PARENTS_MAX:
            del self._files[next(iter(self._files))]

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
                    chain = order["warm"]["chain"]
                    files = list(self._files.get(chain[-1]["id"], ()))
                    self._parents.warm_up(chain, files, now)


def file_names(work: dict[str, Any]) -> list[str]:
    """The files a piece of work names: `files` is a list of {"path": ...}."""
    files = work.get("files") or []
    return [each["path"] for each in files if isinstance(each, dict) and "path" in each]
