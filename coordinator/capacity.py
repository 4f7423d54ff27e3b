"""What each worker has free, counting what is assigned and not yet read back. Rule: reserved from
the decision until the attempt or the incarnation ends (protocol A6); a prefetched attempt holds a
queue slot, never a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..core.events import WorkerJoined
from ..core.model import Requirement
from ..core.state import Attempt, Worker
from .matching import fitting_devices, worker_fits

PREFETCH_TARGET_US = 100_000
"""A worker is given about this much work ahead, so that it never waits for a round trip."""
PREFETCH_UNKNOWN = 0
"""Assignments ahead while nobody knows how long such a task takes."""


class Seat(NamedTuple):
    """The reservation of one attempt on one worker; attempts without devices share one."""

    run: str
    cpu_milli: int
    memory_bytes: int
    devices: Sequence[str] = ()


def seat_for(run: str, requirement: Requirement, devices: Sequence[str] = ()) -> Seat:
    """What an attempt with this requirement reserves. A task of no cores still takes a place."""
    return Seat(run, requirement.cpu_milli or 1, requirement.memory_bytes, devices)


class Desk:
    """The leader's view of one incarnation of a worker: capacity, reservations, what it has been
    told."""

    __slots__ = (
        "fits", "free_devices", "incarnation", "join", "known", "name", "open_for_work", "seats",
        "stolen", "used_cpu", "used_memory",
    )  # fmt: skip

    def __init__(self, worker: Worker) -> None:
        self.name = worker.name
        self.incarnation = worker.incarnation
        self.join: WorkerJoined = worker.join
        self.open_for_work = worker.assignable
        self.used_cpu = 0
        self.used_memory = 0
        self.free_devices = {device.id for device in self.join.devices}
        self.seats: dict[str, Seat] = {}
        """By token, oldest first."""
        self.known: set[tuple[str, str]] = set()
        """(run, group) whose specification this incarnation was sent."""
        self.fits: dict[bytes, bool] = {}
        """Requirement signature -> whether this worker could ever run it."""
        self.stolen: set[str] = set()
        """Tokens asked back and not answered yet."""

    def could_run(self, key: bytes, requirement: Requirement) -> bool:
        """Static fit, computed once per signature."""
        fits = self.fits.get(key)
        if fits is None:
            fits = self.fits[key] = not worker_fits(self.join, requirement, self.name)
        return fits

    def free_slots(self, requirement: Requirement) -> int:
        """How many such tasks could start now."""
        free = (self.join.cpu_milli - self.used_cpu) // (requirement.cpu_milli or 1)
        if requirement.memory_bytes:
            free = min(
                free, (self.join.memory_bytes - self.used_memory) // requirement.memory_bytes
            )
        wanted = requirement.device_count
        if wanted:
            free = min(free, len(self.pick_devices(requirement)) // wanted)
        return max(free, 0)

    def room_ahead(self, requirement: Requirement, mean_us: int | None) -> int:
        """How many such tasks may be queued on the worker beyond those that can start now.

        None while the queue there is still more than half full: few large refills beat many small
        ones.
        """
        if requirement.device_count:
            return 0
        cost = requirement.cpu_milli or 1
        side_by_side = max(self.join.cpu_milli // cost, 1)
        if mean_us is None:
            depth = PREFETCH_UNKNOWN
        else:
            depth = min(PREFETCH_TARGET_US * side_by_side // max(mean_us, 1), self.join.prefetch)
        ahead = max(self.used_cpu - self.join.cpu_milli, 0) // cost
        return depth - ahead if 2 * ahead <= depth else 0

    def pick_devices(self, requirement: Requirement) -> list[str]:
        """Free devices that fit, in the worker's order."""
        fitting = fitting_devices(self.join.devices, requirement)
        return [device.id for device in fitting if device.id in self.free_devices]

    def reserve(self, token: str, seat: Seat) -> None:
        """Reserve for an attempt until `release`."""
        self.seats[token] = seat
        self.used_cpu += seat.cpu_milli
        self.used_memory += seat.memory_bytes
        if seat.devices:
            self.free_devices.difference_update(seat.devices)

    def release(self, token: str) -> Seat | None:
        """The attempt is over: what it had reserved. Releasing twice does nothing and gives
        None."""
        seat = self.seats.pop(token, None)
        if seat is None:
            return None
        self.used_cpu -= seat.cpu_milli
        self.used_memory -= seat.memory_bytes
        if seat.devices:
            self.free_devices.update(seat.devices)
        if self.stolen:
            self.stolen.discard(token)
        return seat

    def reserve_attempt(self, attempt: Attempt) -> None:
        """Reserve for an attempt the log says is open (after an election, or held over a
        rejoin)."""
        task = attempt.task
        self.reserve(attempt.token, seat_for(task.run.id, task.group.spec.require, attempt.devices))
