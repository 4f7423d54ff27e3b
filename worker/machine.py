"""What an agent does with what it hears. Rule: facts go in, instructions come out; no clock, no
IO, no randomness.

One `Machine` lives as long as one incarnation. The shell (`agent.py`) feeds it the events of its
consumer in log order and the ends of attempts, takes the instructions from `out`, and carries
them out in order.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ..core import events as e
from ..core.ids import split_token
from ..core.model import ABSENT, Case, Cause, Measurement, TaskSpec, Verdict, spec_problem

SPECS_MAX = 20_000
"""Most groups whose specification is kept; the oldest is forgotten first and its tasks are then
returned.
"""
PAST_MAX = 16_384
"""Ended attempts remembered, so that an assignment stored twice does not run twice."""

QUEUED, RUNNING, OVER = 0, 1, 2
LANES: tuple[tuple[Any, ...], ...] = ((False,), (True,))
PASSED = Verdict.PASSED


class Attempt:
    """An attempt this incarnation holds, from its assignment until its last event is stored."""

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
        "spec",
        "state",
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
        self.inline = spec.isolation == "none"
        self.lane = (self.inline, *event.devices) if event.devices else LANES[self.inline]
        self.arrival = arrival
        self.state = QUEUED
        self.next_n = 0
        self.announced = False
        self.cancelled = False

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


class Start(msgspec.Struct, frozen=True, gc=False):
    """Start the attempt in a process of its own."""

    attempt: Attempt


class StartInline(msgspec.Struct, frozen=True, gc=False):
    """Run the attempts one after the other in the agent's own interpreter."""

    attempts: list[Attempt]


class Kill(msgspec.Struct, frozen=True, gc=False):
    """End a running attempt; its end is then told by `finish`."""

    attempt: Attempt


class TakeBack(msgspec.Struct, frozen=True, gc=False):
    """Give an in-process attempt back with `give_back` if its turn has not come yet; otherwise
    nothing.
    """

    attempt: Attempt


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Put the event into the log under the attempt's run. After the `last` one is stored, call
    `forget`.
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


class Machine:
    """One incarnation of an agent: what it holds, what waits, and what is free."""

    def __init__(self, incarnation: str, cpu_milli: int, memory_bytes: int) -> None:
        self.incarnation = incarnation
        self.out: list[Instruction] = []
        self.sequence = 0
        """Last log sequence read."""
        self.draining = ""
        """Why no new work is taken; "" while it is."""
        self.on_drained: Callable[[], None] = lambda: None
        """Called when a draining machine holds nothing more."""
        self.attempts: dict[str, Attempt] = {}
        """By token: queued, running, and over but not stored."""
        self.running = 0
        self._cpu_total, self._memory_total = cpu_milli, memory_bytes
        self._cpu, self._memory = cpu_milli, memory_bytes
        self._devices: set[str] = set()
        self._inline_running = 0
        self._inline_cpu = self._inline_memory = 0
        self._waiting: dict[tuple[Any, ...], deque[Attempt]] = {}
        """By lane: attempts that need the same devices wait in line; lanes do not wait for each
        other's devices.
        """
        self._specs: dict[tuple[str, str], TaskSpec] = {}
        self._past: OrderedDict[str, None] = OrderedDict()
        self._fitting: TaskSpec | None = None
        """The last specification found to fit this worker; forgotten when draining begins."""
        self._arrivals = 0
        self._term = 0
        self._over = False

    # -- facts from the log -----------------------------------------------------------------------
    def read(self, sequence: int, events: Iterable[object]) -> None:
        """Take the events of one message, in log order. What is not for this incarnation changes
        nothing.
        """
        for event in events:
            kind = type(event)
            if kind is e.TaskAssigned:
                self._assigned(event)  # type: ignore[arg-type]
            elif kind is e.LeaderElected:
                self._term = max(self._term, event.term)  # type: ignore[attr-defined]
            elif kind is e.AttemptRevoked:
                self._revoked(event)  # type: ignore[arg-type]
            elif kind is e.WorkerLost:
                self._lost(event)  # type: ignore[arg-type]
            elif kind is e.WorkerJoined:
                self._joined(event)  # type: ignore[arg-type]
        self.sequence = sequence
        self._admit()

    def _assigned(self, event: e.TaskAssigned) -> None:
        if event.incarnation != self.incarnation or event.term < self._term or self._over:  # W1
            return
        token = event.token
        if token in self.attempts or token in self._past:
            return
        spec = self._spec(event)
        self._arrivals += 1
        attempt = self.attempts[token] = Attempt(self, event, spec or NO_SPEC, self._arrivals)
        if spec is not self._fitting:
            refusal = self._refusal(attempt, spec)
            if refusal:
                self._return(attempt, refusal)
                return
            self._fitting = spec
        lane = self._waiting.get(attempt.lane)
        if lane is None:
            lane = self._waiting[attempt.lane] = deque()
        lane.append(attempt)

    def _spec(self, event: e.TaskAssigned) -> TaskSpec | None:
        key = (event.run, event.token.partition(".")[0].rpartition("-")[0])
        spec = event.spec
        if spec is None:
            return self._specs.get(key)
        if len(self._specs) >= SPECS_MAX:
            del self._specs[next(iter(self._specs))]
        self._specs[key] = spec
        return spec

    def _refusal(self, attempt: Attempt, spec: TaskSpec | None) -> str:
        """Why the agent gives an assignment back at once, or ""."""
        if spec is None:
            return f"this incarnation was not sent the specification of {attempt.task}"
        if self.draining:
            return self.draining
        need = spec.require
        if need.cpu_milli > self._cpu_total:
            return f"needs cpu_milli {need.cpu_milli}, this worker has {self._cpu_total}"
        if need.memory_bytes > self._memory_total:
            return f"needs memory_bytes {need.memory_bytes}, this worker has {self._memory_total}"
        return ""

    def _revoked(self, event: e.AttemptRevoked) -> None:
        """A5: a steal takes back only what has not started; a cancel ends it in any state."""
        attempt = self.attempts.get(event.token)
        if attempt is None or event.term < self._term or attempt.state == OVER:
            return
        if event.mode == "steal":
            if attempt.state == QUEUED:
                self._return(attempt, "revoked")
            elif attempt.inline and not attempt.announced:
                self.out.append(TakeBack(attempt))
        elif attempt.state == QUEUED:
            attempt.cancelled = True
            self.finish(attempt, CANCELLED)
        elif not attempt.cancelled:
            attempt.cancelled = True
            self.out.append(Kill(attempt))

    def _lost(self, event: e.WorkerLost) -> None:
        if event.incarnation == self.incarnation and event.term >= self._term and not self._over:
            self._give_up(Rejoin(event.reason or "declared lost"))

    def _joined(self, event: e.WorkerJoined) -> None:
        if event.incarnation != self.incarnation and not self._over:
            self._give_up(
                Exit(f"superseded: another agent joined under this name ({event.incarnation})")
            )

    def _give_up(self, instruction: Instruction) -> None:
        self.abandon()
        self.out.append(instruction)

    def abandon(self) -> None:
        """Nothing more is said about any attempt: the leader rules on each of them (W3)."""
        self._over = True
        for attempt in self.attempts.values():
            attempt.state = OVER
        self.attempts.clear()
        self._waiting.clear()
        self.running = 0

    # -- facts from the runners -------------------------------------------------------------------
    def announce(self, attempt: Attempt) -> None:
        """The attempt runs, and long enough that its start is worth an event of its own."""
        if attempt.state == RUNNING and not attempt.announced:
            attempt.announced = True
            self._publish(attempt, e.AttemptStarted(token=attempt.token, n=attempt.next_n))

    def report(
        self,
        attempt: Attempt,
        cases: list[Case],
        measurements: list[Measurement],
        truncated: bool = False,
    ) -> None:
        """Cases and measurements came in; the caller bounds them so that they fit a message."""
        if attempt.state == RUNNING:
            event = e.CasesReported(
                token=attempt.token,
                n=attempt.next_n,
                cases=cases,
                measurements=measurements,
                truncated=truncated,
            )
            self._publish(attempt, event)

    def artifact(self, attempt: Attempt, path: str, digest: str, size: int) -> None:
        """A file of the attempt is in the blob store."""
        if attempt.state == RUNNING:
            event = e.ArtifactStored(
                token=attempt.token, n=attempt.next_n, path=path, digest=digest, bytes=size
            )
            self._publish(attempt, event)

    def finish(self, attempt: Attempt, ended: Ended) -> None:
        """The attempt is over; what it reserved is free. Told twice, or after the incarnation
        ended: no effect.
        """
        if attempt.state == OVER:
            return
        if attempt.state == RUNNING:
            self._release(attempt)
        attempt.state = OVER
        cancelled = attempt.cancelled
        event = e.AttemptFinished(
            token=attempt.token,
            n=attempt.next_n,
            verdict=Verdict.CANCELLED if cancelled else ended.verdict,
            cause=Cause.CANCELLED if cancelled else ended.cause,
            duration_us=ended.duration_us,
            exit_code=ended.exit_code,
            message=ended.message,
            value=ended.value,
            usage=ended.usage,
            placement=ended.placement,
            output=ended.output,
        )
        self.out.append(Publish(attempt, event, True))

    def passed(self, attempt: Attempt, duration_us: int, value: msgspec.Raw) -> None:
        """`finish` for an in-process attempt that passed and said nothing: the short way."""
        if attempt.state != RUNNING or attempt.cancelled:
            self.finish(attempt, Ended(verdict=PASSED, duration_us=duration_us, value=value))
            return
        self._release(attempt)
        attempt.state = OVER
        event = e.AttemptFinished(
            token=attempt.token,
            n=attempt.next_n,
            verdict=PASSED,
            duration_us=duration_us,
            value=value,
        )
        self.out.append(Publish(attempt, event, True))

    def finish_all(self, ends: Sequence[tuple[Attempt, Ended]]) -> None:
        """`finish` each, then start what fits now. The one to call."""
        for attempt, ended in ends:
            self.finish(attempt, ended)
        self._admit()

    def give_back(self, attempt: Attempt) -> None:
        """An in-process attempt was taken out of the line before its turn came."""
        if attempt.state == RUNNING:
            self._release(attempt)
            self._return(attempt, "revoked")

    def forget(self, token: str) -> None:
        """The last event of the attempt is in the log: the agent holds it no more."""
        if self.attempts.pop(token, None) is not None:
            past = self._past
            past[token] = None
            if len(past) > PAST_MAX:
                past.popitem(last=False)
            if not self.attempts and self.draining:
                self.on_drained()

    # -- orders from the shell --------------------------------------------------------------------
    def drain(self, reason: str) -> None:
        """Take no new work from here on: what waits is given back, what runs may end."""
        self.draining = self.draining or reason
        self._fitting = None
        for lane in self._waiting.values():
            for attempt in lane:
                if attempt.state == QUEUED:
                    self._return(attempt, self.draining)
        self._waiting.clear()

    @property
    def busy(self) -> bool:
        """Whether attempts run or wait here."""
        return self.running > 0 or bool(self._waiting)

    def held(self) -> list[str]:
        """Every attempt held, as "run/token" (protocol W4)."""
        return [f"{attempt.run}/{token}" for token, attempt in self.attempts.items()]

    # -- admission --------------------------------------------------------------------------------
    def _admit(self) -> None:
        """Start what fits, first come first served. Who waits for cores or memory holds up all
        who came later; who waits for a device holds up only those who want that device.
        """
        inline: list[Attempt] = []
        blocked: set[tuple[Any, ...]] = set()
        while True:
            attempt = self._next(blocked)
            if attempt is None:
                break
            if attempt.devices and not self._devices.isdisjoint(attempt.devices):
                blocked.add(attempt.lane)
                continue
            if not self._reserve(attempt):
                break
            lane = self._waiting[attempt.lane]
            lane.popleft()
            attempt.state = RUNNING
            self.running += 1
            if attempt.inline:
                inline.append(attempt)
                if len(self._waiting) == 1 and not attempt.devices:
                    self._admit_alike(lane, attempt.spec, inline)
            else:
                self.out.append(Start(attempt))
            if not lane:
                del self._waiting[attempt.lane]
        if inline:
            self.out.append(StartInline(inline))

    def _admit_alike(self, lane: deque[Attempt], spec: TaskSpec, inline: list[Attempt]) -> None:
        """The usual case, short: many in-process tasks of one group, and nobody else waits."""
        before = len(inline)
        while lane and lane[0].spec is spec and lane[0].state == QUEUED:
            attempt = lane.popleft()
            attempt.state = RUNNING
            inline.append(attempt)
        count = len(inline) - before
        self.running += count
        self._inline_running += count

    def _next(self, blocked: set[tuple[Any, ...]]) -> Attempt | None:
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
        """Take cores, memory and devices for the attempt, or nothing at all and say no."""
        need = attempt.spec.require
        if (
            attempt.inline
        ):  # one thread runs them in turn: together they need what the largest needs
            cpu = max(0, need.cpu_milli - self._inline_cpu)
            memory = max(0, need.memory_bytes - self._inline_memory)
        else:
            cpu, memory = need.cpu_milli, need.memory_bytes
        if cpu > self._cpu or memory > self._memory:
            return False
        self._cpu -= cpu
        self._memory -= memory
        if attempt.inline:
            self._inline_running += 1
            self._inline_cpu += cpu
            self._inline_memory += memory
        if attempt.devices:
            self._devices.update(attempt.devices)
        return True

    def _release(self, attempt: Attempt) -> None:
        self.running -= 1
        if attempt.devices:
            self._devices.difference_update(attempt.devices)
        if not attempt.inline:
            self._cpu += attempt.spec.require.cpu_milli
            self._memory += attempt.spec.require.memory_bytes
            return
        self._inline_running -= 1
        if not self._inline_running:
            self._cpu += self._inline_cpu
            self._memory += self._inline_memory
            self._inline_cpu = self._inline_memory = 0

    # -- events -----------------------------------------------------------------------------------
    def _publish(self, attempt: Attempt, event: e.Event) -> None:
        attempt.next_n += 1
        self.out.append(Publish(attempt, event))

    def _return(self, attempt: Attempt, reason: str) -> None:
        attempt.state = OVER
        event = e.AttemptReturned(token=attempt.token, n=attempt.next_n, reason=reason[:256])
        self.out.append(Publish(attempt, event, True))


NO_SPEC = TaskSpec(command=["-"])
CANCELLED = Ended(
    verdict=Verdict.CANCELLED,
    cause=Cause.CANCELLED,
    duration_us=0,
    message="cancelled before it started",
)


def spec_refusal(spec: TaskSpec) -> str | None:
    """Why this specification can never run here, whatever the parameters."""
    problem = spec_problem(spec)
    if problem is None and spec.isolation == "none":
        if spec.env:
            problem = "isolation 'none' cannot set 'env'; use isolation 'process'"
        elif spec.artifacts:
            problem = (
                "isolation 'none' has no scratch directory to take 'artifacts' from; "
                "use isolation 'process'"
            )
    return problem
