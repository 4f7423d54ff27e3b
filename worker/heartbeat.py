"""The agent's heartbeat. Rule: a beat is true when it is sent or it is not sent; none is kept for
later.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ..core.codec import encode_batch
from ..core.events import Heartbeat
from ..core.ids import random_id
from ..core.ports import Appended
from .links import Links
from .machine import Machine


class Heart:
    """Beats on `subject` with what the current machine holds; `machine()` is None before a join."""

    def __init__(
        self, links: Links, subject: str, every_s: float, machine: Callable[[], Machine | None]
    ) -> None:
        self._links = links
        self._subject = subject
        self._every_s = every_s
        self._machine = machine
        self._ticks = machine_ticks()

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(self._every_s)

    def beat(self) -> None:
        """The pool hears that this agent lives and what it holds; not while no server is there."""
        machine = self._machine()
        if machine is None or not self._links.connected():
            return
        server_id, client_id = self._links.identity()
        beat = Heartbeat(
            incarnation=machine.incarnation,
            sequence=machine.sequence,
            held=machine.held(),
            running=machine.running,
            cpu_percent=self._cpu_percent(),
            memory_bytes=memory_in_use(),
            load1=os.getloadavg()[0],
            server_id=server_id,
            client_id=client_id,
        )
        self._links.telemetry.append_soon(
            self._subject, encode_batch([beat]), random_id(26), _answered
        )

    def _cpu_percent(self) -> float | None:
        """How busy the machine was since the last beat, all cores together: 0 to 100."""
        before, self._ticks = self._ticks, machine_ticks()
        if before is None or self._ticks is None or self._ticks[1] <= before[1]:
            return None
        busy, total = self._ticks[0] - before[0], self._ticks[1] - before[1]
        return round(100 * busy / total, 1)


def _answered(result: Appended | Exception) -> None:
    """A beat that was not stored is followed by the next one."""


def machine_ticks() -> tuple[int, int] | None:
    """(busy, all) ticks of all cores since boot, or None where that is not told."""
    try:
        with open("/proc/stat", "rb") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def memory_in_use() -> int | None:
    """Main memory of the machine that is not available to others now, or None where that is not
    told.
    """
    found: dict[bytes, int] = {}
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                name, _, rest = line.partition(b":")
                if name in (b"MemTotal", b"MemAvailable"):
                    found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError):
        return None
    return found[b"MemTotal"] - found[b"MemAvailable"] if len(found) == 2 else None
