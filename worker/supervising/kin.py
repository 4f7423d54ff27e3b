"""Warm processes as the supervisor holds them. Rule: records; they decide nothing.

A parent is only forked from; a host runs orders of one slot. What has no pid yet has not said
hello.
"""

from __future__ import annotations

import os
import signal

from .channel import NEVER
from .table import boot_ticks, kill_quietly
from .wire import Wire

TYPE_CHECKING = False  # importing typing would cost 2 MiB here
if TYPE_CHECKING:
    import select
    from collections.abc import Iterable
    from typing import Any

    from .running import Running

LOG_BYTES = 2000
"""Most of what a parent has printed that is told when it fails."""


class Kin:
    """Any warm process. `due`: when it must be looked at, monotonic nanoseconds."""

    count = 0

    def __init__(self, poll: select.poll) -> None:
        Kin.count += 1
        self.serial = Kin.count
        """Its name in a fork."""
        self.pid = 0
        self.wire = Wire(poll)
        self.due = NEVER
        self.ticks = boot_ticks()
        self.leaving = False
        """It was told to exit."""
        self.asked: Parent | None = None
        """Who was asked to fork it, until it says hello."""
        self.lost = False
        """It never said hello, and will not."""

    def kill(self) -> None:
        """It and its group die, if it was ever heard of; if not, the end of its socket ends it."""
        if self.pid:
            kill_quietly(-self.pid, signal.SIGKILL)
            kill_quietly(self.pid, signal.SIGKILL)


class Parent(Kin):
    """A process that others are forked from."""

    def __init__(self, poll: select.poll, link: dict[str, Any], now: int) -> None:
        super().__init__(poll)
        self.link = link
        self.id: str = link["id"]
        self.ready = False
        self.problem = ""
        """What it could not import; nobody is stopped by that, but told."""
        self.used = now
        self.asked_at = 0
        """When it was last asked for a process that runs one order."""
        self.spares: list[Host] = []
        self.awaited: list[Kin] = []
        """Those it was asked to fork that have not said hello."""
        self.to_warm: list[str] = []
        self.warmed: set[str] = set()
        self.warming = False
        self.log = os.memfd_create("warm") if hasattr(os, "memfd_create") else -1
        """What it prints; never full, and read only when it fails."""

    def last_words(self) -> str:
        """The end of what it has printed."""
        if self.log < 0:
            return ""
        size = os.fstat(self.log).st_size
        data = os.pread(self.log, LOG_BYTES, max(0, size - LOG_BYTES))
        return data.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Nothing of it is open here. Idempotent."""
        self.wire.close()
        if self.log >= 0:
            os.close(self.log)
            self.log = -1


class Host(Kin):
    """A process that runs orders, one after the other; one alone when `name` is "". Without an
    order it is a spare one.
    """

    def __init__(self, poll: select.poll) -> None:
        super().__init__(poll)
        self.slot = -1
        self.name = ""
        self.order: dict[str, Any] = {}
        """The one it runs, or ran last."""
        self.key = 0
        self.keys: set[int] = set()
        """Of all attempts it has served: what they started may live until it ends."""
        self.tries = 0
        self.pipe = -1
        """Our end of its output, while no attempt has it."""
        self.attempt: Running | None = None
        self.unwanted = False
        """Its attempt was given up before it said hello."""
        self.next: tuple[int, dict[str, Any]] | None = None
        """The order that waits for its end."""
        self.start = "fork"
        self.note = ""
        self.cpu_us = 0
        """Told for earlier attempts."""

    def take(self, key: int, order: dict[str, Any]) -> None:
        """The order is its own from now on."""
        self.key, self.order = key, order
        self.slot, self.name = order["slot"], order["warm"]["host"]
        self.keys.add(key)
        if self.asked is None:
            self.due = NEVER

    def fits(self, order: dict[str, Any]) -> bool:
        """Whether it can run the order as it is."""
        warm = order.get("warm")
        return bool(
            warm
            and self.name
            and warm["host"] == self.name
            and self.pipe >= 0
            and self.wire.open
            and not self.leaving
        )


def may_keep(kins: Iterable[Kin], owner: int | None, started: int) -> bool:
    """Whether an orphan may be a process of a host, or one that has not said hello yet."""
    for kin in kins:
        if isinstance(kin, Host) and owner is not None and owner in kin.keys:
            return True
        if (
            owner is None
            and kin.ticks <= started
            and (kin.asked or (isinstance(kin, Host) and kin.name))
        ):
            return True
    return False
