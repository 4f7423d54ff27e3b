"""The fold of a log: messages in, state and judgements out.

Shared by every reader: coordinator, projector, audit, client.

Rule: one total function. Any bytes under any subject fold; what does not count is void with a
reason (protocol F1-F6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .codec import Undecodable, decode_batch
from .errors import FoldVersionError
from .events import WRITERS, Event
from .evolve import STEPS, Step
from .ports import Message
from .state import Pool
from .subjects import Subject, Subjects

SERVER_HEADERS = frozenset({"nats-stream", "nats-subject", "nats-sequence"})


class Judged(NamedTuple):
    """A message after folding. `voids[i]` is "" where `events[i]` counts, else why it is void."""

    message: Message
    subject: Subject | None
    events: Sequence[Event | Undecodable]
    voids: Sequence[str]


NO_VOIDS: tuple[str, ...] = ("",) * 1024


class Fold:
    """A pool's state and the one door that changes it."""

    def __init__(
        self, name: str, pool: Pool | None = None, steps: Mapping[type, Step] = STEPS
    ) -> None:
        self.subjects = Subjects(name)
        self.pool = pool if pool is not None else Pool(name)
        self._steps = steps
        """The steps of `evolve`, possibly watched: a reader may look at the state before one, never change it."""

    def apply(self, message: Message) -> Judged:
        """Fold the next message; the state then stands at its sequence.

        Messages must come in log order, each once: `message.sequence` above `pool.sequence`
        (readers check gaps). Raises `FoldVersionError` when the log asks for a newer fold than this
        program has.
        """
        pool = self.pool
        subject = self.subjects.parse(message.subject)
        events = decode_batch(message.data)
        sequence = message.sequence
        if subject is None or _forged(message):
            reason = "subject" if subject is None else "forged"
            voids: Sequence[str] = [reason] * len(events)
        else:
            voids = self._judge(subject, events, sequence)
        pool.sequence = sequence
        if voids is not NO_VOIDS:
            for reason in voids:
                if reason:
                    pool.voids[reason] = pool.voids.get(reason, 0) + 1
        return Judged(message, subject, events, voids)

    def _judge(
        self, subject: Subject, events: Sequence[Event | Undecodable], sequence: int
    ) -> Sequence[str]:
        pool, allowed, steps = self.pool, WRITERS[subject.kind], self._steps
        voids: list[str] = []
        clean = True
        for index, event in enumerate(events):
            kind = type(event)
            if kind not in allowed:
                reason = self._misfit(subject, event)
            elif not pool.uuid and kind.__name__ != "PoolCreated":
                reason = "no_pool"  # F7
            else:
                try:
                    reason = steps[kind](pool, subject, event, sequence, index)
                except FoldVersionError:
                    raise
                except (
                    Exception
                ):  # F3: a bug of ours in one step voids one event, with an alarm, not the pool
                    reason = "fold_error"
            if reason:
                clean = False
            voids.append(reason)
        return NO_VOIDS if clean and len(events) <= len(NO_VOIDS) else voids

    def _misfit(self, subject: Subject, event: Event | Undecodable) -> str:
        """Why an element does not belong under its subject; a malformed part dooms its owner's open
        run (S2).
        """
        if not isinstance(event, Undecodable):
            return "wrong_subject"  # F5
        if subject.kind == "run":
            run = self.pool.runs.get(subject.run)
            if (
                run is not None
                and run.publisher == subject.owner
                and not (run.closed or run.settled)
            ):
                run.invalid = run.invalid or f"{event.reason}: {event.detail}"[:256]
        return event.reason


def _forged(message: Message) -> bool:
    """The server itself wrote this message into the log at somebody's request (protocol F5)."""
    headers = message.headers
    return bool(headers) and any(name.lower() in SERVER_HEADERS for name in headers or ())
