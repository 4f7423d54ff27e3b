"""What an agent does with what it hears. Rule: facts go in, instructions come out; no clock, no IO,
no randomness.

One `Machine` lives as long as one incarnation. The shell (`agent.py`) feeds it the events of its
consumer in log order and the ends of attempts, takes the instructions from `out`, and carries them
out in order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from ..core import events as e
from ..core.model import Case, Cause, Measurement, TaskSpec, Verdict
from .admission import Admission
from .attempt import (
    LINED_UP,
    OVER,
    QUEUED,
    RUNNING,
    Attempt,
    Ended,
    Exit,
    Instruction,
    Kill,
    Publish,
    Rejoin,
    Start,
    StartInline,
    TakeBack,
)

SPECS_MAX = 20_000
"""Most groups whose specification is kept; the oldest is forgotten first and its tasks are then
returned.
"""
PAST_MAX = 16_384
"""Ended attempts remembered, so that an assignment stored twice does not run twice."""
PASSED = Verdict.PASSED
NO_SPEC = TaskSpec(command=["-"])
CANCELLED = Ended(
    verdict=Verdict.CANCELLED,
    cause=Cause.CANCELLED,
    duration_us=0,
    message="cancelled before it started",
)


class Machine:
    """One incarnation of an agent: what it holds, and what becomes of it."""

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
        self.admission = Admission(cpu_milli, memory_bytes)
        self._specs: OrderedDict[tuple[str, str], TaskSpec] = OrderedDict()
        self._past: OrderedDict[str, None] = OrderedDict()
        self._fitting: TaskSpec | None = None
        """The last specification found to fit this worker; forgotten when draining begins."""
        self._arrivals = 0
        self._term = 0
        self._over = False

    @property
    def running(self) -> int:
        """Attempts that run now."""
        return self.admission.running

    @property
    def busy(self) -> bool:
        """Whether attempts run or wait here."""
        return self.admission.busy

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
        if spec is not self._fitting or spec is None:
            refusal = self._refusal(attempt, spec)
            if refusal:
                self._return(attempt, refusal)
                return
            self._fitting = spec
        self.admission.add(attempt)

    def _spec(self, event: e.TaskAssigned) -> TaskSpec | None:
        key = (event.run, event.token.partition(".")[0].rpartition("-")[0])
        spec = event.spec
        if spec is None:
            return self._specs.get(key)
        if len(self._specs) >= SPECS_MAX:
            self._specs.popitem(last=False)
        self._specs[key] = spec
        return spec

    def _refusal(self, attempt: Attempt, spec: TaskSpec | None) -> str:
        """Why the agent gives an assignment back at once, or ""."""
        if spec is None:
            return f"this incarnation was not sent the specification of {attempt.task}"
        return self.draining or self.admission.never(spec.require)

    def _revoked(self, event: e.AttemptRevoked) -> None:
        """A5: a steal takes back only what has not started; a cancel ends it in any state."""
        attempt = self.attempts.get(event.token)
        if attempt is None or event.term < self._term or attempt.state == OVER:
            return
        if event.mode == "steal":
            if attempt.state == QUEUED:
                self._return(attempt, "revoked")
            elif attempt.state == LINED_UP or (attempt.inline and not attempt.announced):
                attempt.stolen = True
                self.out.append(TakeBack(attempt))
        elif attempt.state == QUEUED:
            attempt.cancelled = True
            self.finish(attempt, CANCELLED)
        elif not attempt.cancelled:
            attempt.cancelled = True
            self.out.append(Kill(attempt))

    def _lost(self, event: e.WorkerLost) -> None:
        if event.incarnation == self.incarnation and event.term >= self._term and not self._over:
            self.abandon()
            self.out.append(Rejoin(event.reason or "declared lost"))

    def _joined(self, event: e.WorkerJoined) -> None:
        if event.incarnation != self.incarnation and not self._over:
            self.abandon()
            reason = f"superseded: another agent joined under this name ({event.incarnation})"
            self.out.append(Exit(reason))

    def abandon(self) -> None:
        """Nothing more is said about any attempt: the leader rules on each of them (W3)."""
        self._over = True
        for attempt in self.attempts.values():
            attempt.state = OVER
        self.attempts.clear()
        self.admission = Admission(self.admission.cpu_total, self.admission.memory_total)

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
        if attempt.state != OVER:
            event = e.CasesReported(
                token=attempt.token,
                n=attempt.next_n,
                cases=cases,
                measurements=measurements,
                truncated=truncated,
            )
            self._publish(attempt, event)

    def collected(
        self,
        attempt: Attempt,
        file: str,
        selected: int,
        deselected: int,
        digest: str,
        ids: list[str],
        scoped: bool,
    ) -> None:
        """The attempt found the cases of a file; the caller bounds `ids` to what fits a message."""
        if attempt.state != OVER:
            event = e.CasesCollected(
                token=attempt.token,
                n=attempt.next_n,
                file=file,
                selected=selected,
                deselected=deselected,
                digest=digest,
                ids=ids,
                scoped=scoped,
            )
            self._publish(attempt, event)

    def artifact(self, attempt: Attempt, path: str, digest: str, size: int) -> None:
        """A file of the attempt is in the blob store."""
        if attempt.state != OVER:
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
        if attempt.state != QUEUED:
            self.admission.leave(attempt)
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
        self.admission.leave(attempt)
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

    def returned(self, attempt: Attempt) -> None:
        """The attempt's turn had not come, and it is no longer in line: it was stolen, cancelled,
        or waits again because whoever is before it takes long.
        """
        if attempt.state in (QUEUED, OVER):
            return
        self.admission.leave(attempt)
        if attempt.cancelled:
            attempt.state = QUEUED
            self.finish(attempt, CANCELLED)
        elif attempt.stolen or self.draining:
            self._return(attempt, "revoked" if attempt.stolen else self.draining)
        else:
            self.admission.put_back(attempt)
        self._admit()

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
        for attempt in self.admission.take_waiting():
            self._return(attempt, self.draining)

    def held(self) -> list[str]:
        """Every attempt held, as "run/token" (protocol W4)."""
        return [f"{attempt.run}/{token}" for token, attempt in self.attempts.items()]

    # -- instructions -----------------------------------------------------------------------------
    def _admit(self) -> None:
        inline: list[Attempt] = []
        for attempt in self.admission.admit():
            if attempt.inline:
                inline.append(attempt)
            else:
                self.out.append(Start(attempt))
        if inline:
            self.out.append(StartInline(inline))

    def _publish(self, attempt: Attempt, event: e.Event) -> None:
        attempt.next_n += 1
        self.out.append(Publish(attempt, event))

    def _return(self, attempt: Attempt, reason: str) -> None:
        attempt.state = OVER
        event = e.AttemptReturned(token=attempt.token, n=attempt.next_n, reason=reason[:256])
        self.out.append(Publish(attempt, event, True))
