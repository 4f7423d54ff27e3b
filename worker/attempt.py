"""An attempt as the agent holds it, and what may be done with it. Rule: plain records, no
decisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..core import events as e
from ..core.ids import split_token
from ..core.model import ABSENT, Cause, TaskSpec, Verdict

if TYPE_CHECKING:
    from .machine import Machine

QUEUED, LINED_UP, RUNNING, OVER = 0, 1, 2, 3
LANES: tuple[tuple[Any, ...], ...] = ((False,), (True,))


class Attempt:
    """An attempt an incarnation holds, from its assignment until its last event is stored."""

    __slots__ = (
        "announced",
        "arrival",
        "cancelled",
        "devices",
        "inline",
        "lane",
        "machine",
        "next_n",
        "params",
        "run",
        "slot",
        "spec",
        "state",
        "stolen",
        "token",
    )

    def __init__(
        self, machine: Machine, event: e.TaskAssigned, spec: TaskSpec, arrival: int
    ) -> None:
        self.machine = machine
        self.run = event.run
        self.token = event.token
        self.spec = spec
        self.params = event.params
        self.devices = event.devices
        self.inline = spec.runner == "python" and spec.isolation == "none"
        """It runs in the agent's own interpreter."""
        self.lane = (self.inline, *event.devices) if event.devices else LANES[self.inline]
        """Attempts of one lane wait for the same things."""
        self.arrival = arrival
        self.state = QUEUED
        self.slot: Slot | None = None
        self.next_n = 0
        """Number of its next event (protocol A2)."""
        self.announced = False
        """Its start was published: it is not short."""
        self.cancelled = False
        self.stolen = False
        """The leader wants it back, if its turn has not come."""

    def stored(self, sequence: int, index: int) -> None:
        """The last event of the attempt is in the log."""
        self.machine.forget(self.token)

    @property
    def task(self) -> str:
        parts = split_token(self.token)
        return parts[0] if parts else self.token.partition(".")[0]

    @property
    def number(self) -> int:
        parts = split_token(self.token)
        return parts[1] if parts else 0


class Slot:
    """Cores and memory that attempts alike use in turn: the first in line runs, the rest waits."""

    __slots__ = ("line", "number", "require")

    def __init__(self, number: int, first: Attempt) -> None:
        self.number = number
        self.require = first.spec.require
        self.line = [first]


class Ended(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an attempt ended, as a runner tells it. Fields as in `AttemptFinished`."""

    verdict: Verdict
    cause: Cause = Cause.DONE
    duration_us: int
    exit_code: int | None = None
    message: str = ""
    value: msgspec.Raw = ABSENT
    usage: Any = None
    placement: Any = None
    output: Any = None


class Start(msgspec.Struct, frozen=True, gc=False):
    """Start the attempt in a process of its own, once whoever runs in its slot has ended."""

    attempt: Attempt


class StartInline(msgspec.Struct, frozen=True, gc=False):
    """Run the attempts one after the other in the agent's own interpreter."""

    attempts: list[Attempt]


class Kill(msgspec.Struct, frozen=True, gc=False):
    """End an attempt; its end is then told by `finish`, or by `returned` if it had not begun."""

    attempt: Attempt


class TakeBack(msgspec.Struct, frozen=True, gc=False):
    """Tell `returned` if the attempt's turn has not come yet; otherwise nothing."""

    attempt: Attempt


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Put the event into the log under the attempt's run. Once the `last` one is stored, call
    `attempt.stored`.
    """

    attempt: Attempt
    event: e.Event
    last: bool = False


class Rejoin(msgspec.Struct, frozen=True, gc=False):
    """The pool has given this incarnation up: kill everything without a word and join anew."""

    reason: str


class Exit(msgspec.Struct, frozen=True, gc=False):
    """Another agent took the name over: end this one."""

    reason: str


Instruction = Start | StartInline | Kill | TakeBack | Publish | Rejoin | Exit
