"""Which attempt may start now. Rule: first come, first served; nothing is reserved twice or freed
twice.

Pure. Who waits for cores or memory holds up all who came later; who waits for a device holds up
only those who want that device. Short attempts in processes are lined up behind one alike that
runs, so that the next one starts without a round trip.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ..core.model import Requirement, TaskSpec
from .attempt import LINED_UP, QUEUED, RUNNING, Attempt, Slot

LINE_MAX = 16
"""Most attempts lined up behind one that runs."""


class Admission:
    """What waits, what runs, and what is free of the worker's cores, memory and devices."""

    def __init__(self, cpu_milli: int, memory_bytes: int) -> None:
        self.running = 0
        self.cpu_total, self.memory_total = cpu_milli, memory_bytes
        self.cpu, self.memory = cpu_milli, memory_bytes
        """Free now."""
        self.devices: set[str] = set()
        """In use now."""
        self._waiting: dict[tuple[Any, ...], deque[Attempt]] = {}
        self._inline_running = 0
        self._inline_cpu = self._inline_memory = 0
        self._slots: list[Slot] = []
        self._quick: set[int] = set()
        """Identities of specifications whose last attempt was short."""

    @property
    def busy(self) -> bool:
        """Whether attempts run or wait."""
        return self.running > 0 or bool(self._waiting)

    def never(self, need: Requirement) -> str:
        """Why no attempt with this requirement can ever start here, or ""."""
        if need.cpu_milli > self.cpu_total:
            return f"needs cpu_milli {need.cpu_milli}, this worker has {self.cpu_total}"
        if need.memory_bytes > self.memory_total:
            return f"needs memory_bytes {need.memory_bytes}, this worker has {self.memory_total}"
        return ""

    # -- in and out -------------------------------------------------------------------------------
    def add(self, attempt: Attempt) -> None:
        """The attempt waits, behind all that came before it."""
        lane = self._waiting.get(attempt.lane)
        if lane is None:
            lane = self._waiting[attempt.lane] = deque()
        lane.append(attempt)

    def put_back(self, attempt: Attempt) -> None:
        """An attempt whose turn did not come after all waits again, in its old place."""
        attempt.state = QUEUED
        attempt.slot = None
        lane = self._waiting.get(attempt.lane)
        if lane is None:
            lane = self._waiting[attempt.lane] = deque()
        place = 0
        while place < len(lane) and lane[place].arrival < attempt.arrival:
            place += 1
        lane.insert(place, attempt)

    def take_waiting(self) -> list[Attempt]:
        """Every waiting attempt; none waits any more."""
        waiting = [a for lane in self._waiting.values() for a in lane if a.state == QUEUED]
        self._waiting.clear()
        return waiting

    def leave(self, attempt: Attempt) -> None:
        """An attempt that runs or is lined up is so no more; what only it reserved is free."""
        if attempt.state == RUNNING:
            self.running -= 1
        if attempt.inline:
            self._inline_running -= 1
            if not self._inline_running:
                self.cpu += self._inline_cpu
                self.memory += self._inline_memory
                self._inline_cpu = self._inline_memory = 0
        elif attempt.slot is not None:
            self._leave_slot(attempt, attempt.slot)
        if attempt.devices:
            self.devices.difference_update(attempt.devices)

    def _leave_slot(self, attempt: Attempt, slot: Slot) -> None:
        line = slot.line
        line.remove(attempt)
        if attempt.state == RUNNING:
            (self._quick.discard if attempt.announced else self._quick.add)(id(attempt.spec))
        if not line:
            self._slots.remove(slot)
            self.cpu += slot.require.cpu_milli
            self.memory += slot.require.memory_bytes
        elif line[0].state == LINED_UP:
            line[0].state = RUNNING
            self.running += 1

    # -- admission --------------------------------------------------------------------------------
    def admit(self) -> list[Attempt]:
        """The attempts that start now, in order; they have what they need."""
        admitted: list[Attempt] = []
        blocked: set[tuple[Any, ...]] = set()
        while self._waiting:
            attempt = self._oldest(blocked)
            if attempt is None:
                break
            if attempt.devices and not self.devices.isdisjoint(attempt.devices):
                blocked.add(attempt.lane)
                continue
            if not self._reserve(attempt):
                break
            admitted.append(attempt)
            lane = self._waiting[attempt.lane]
            lane.popleft()
            if attempt.inline and len(self._waiting) == 1 and not attempt.devices:
                self._admit_alike(lane, attempt.spec, admitted)
            if not lane:
                del self._waiting[attempt.lane]
        return admitted

    def _admit_alike(self, lane: deque[Attempt], spec: TaskSpec, admitted: list[Attempt]) -> None:
        """The usual case, short: many in-process tasks of one group, and nobody else waits."""
        before = len(admitted)
        while lane and lane[0].spec is spec and lane[0].state == QUEUED:
            attempt = lane.popleft()
            attempt.state = RUNNING
            admitted.append(attempt)
        count = len(admitted) - before
        self.running += count
        self._inline_running += count

    def _oldest(self, blocked: set[tuple[Any, ...]]) -> Attempt | None:
        """The attempt that waits longest in a lane that is not blocked."""
        oldest: Attempt | None = None
        for name, lane in list(self._waiting.items()):
            while lane and lane[0].state != QUEUED:  # given back or cancelled while it waited
                lane.popleft()
            if not lane:
                del self._waiting[name]
            elif name not in blocked and (oldest is None or lane[0].arrival < oldest.arrival):
                oldest = lane[0]
        return oldest

    def _reserve(self, attempt: Attempt) -> bool:
        """Whether the attempt now has all it needs, or a place in line for it."""
        need = attempt.spec.require
        if attempt.inline:  # one thread runs them in turn: together they need what the largest does
            cpu = max(0, need.cpu_milli - self._inline_cpu)
            memory = max(0, need.memory_bytes - self._inline_memory)
        else:
            cpu, memory = need.cpu_milli, need.memory_bytes
        if cpu > self.cpu or memory > self.memory:
            return self._line_up(attempt)
        self.cpu -= cpu
        self.memory -= memory
        if attempt.inline:
            self._inline_running += 1
            self._inline_cpu += cpu
            self._inline_memory += memory
        else:
            attempt.slot = Slot(self._free_number(), attempt)
            self._slots.append(attempt.slot)
        if attempt.devices:
            self.devices.update(attempt.devices)
        attempt.state = RUNNING
        self.running += 1
        return True

    def _free_number(self) -> int:
        """The smallest number no slot has: warm processes wait for the next order of theirs."""
        taken = {slot.number for slot in self._slots}
        return next(number for number in range(1, len(taken) + 2) if number not in taken)

    def _line_up(self, attempt: Attempt) -> bool:
        """Whether the attempt waits behind a short one alike, to take over its cores and memory."""
        if attempt.inline or attempt.devices or id(attempt.spec) not in self._quick:
            return False
        need = attempt.spec.require
        slots = [slot for slot in self._slots if slot.require == need and _open(slot)]
        if not slots:
            return False
        slot = min(slots, key=lambda slot: len(slot.line))
        slot.line.append(attempt)
        attempt.slot = slot
        attempt.state = LINED_UP
        return True


def _open(slot: Slot) -> bool:
    first = slot.line[0]
    return len(slot.line) <= LINE_MAX and not first.announced and not first.devices
