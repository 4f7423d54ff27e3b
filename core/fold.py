"""The fold of a log: messages in, state and judgements out.

Shared by every reader: coordinator, projector, audit, client.

Rule: one total function. Any bytes under any subject fold; what does not count is void with a
reason (protocol F1-F6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from .codec import Undecodable, decode_batch
from .events import WRITERS, Event, PoolCreated
from .evolve import STEPS, Step, Stepper
from .evolve_runs import undecodable
from .ports import Message
from .state import Pool
from .subjects import Subject, Subjects

SERVER_HEADERS = frozenset({"nats-stream", "nats-subject", "nats-sequence"})


class Judged(NamedTuple):
    """A message after folding.

    `voids[i]` is "" where `events[i]` counts, else why it is void.
    """

    message: Message
    subject: Subject | None
    events: Sequence[Event | Undecodable]
    voids: Sequence[str]


NO_VOIDS: tuple[str, ...] = ("",) * 1024
"""The `voids` of a message of up to 1,024 events that all count: longer than its events."""


class Fold:
    """A pool's state and the one door that changes it."""

    def __init__(
        self, name: str, pool: Pool | None = None, steps: Mapping[type, Step] = STEPS
    ) -> None:
        """Fold the pool `name` from its first message, or from where a restored `pool` stands.

        `steps` are those of `evolve`, possibly watched: a reader may look at the state before one,
        never change it.
        """
        self.subjects = Subjects(name)
        self.pool = pool if pool is not None else Pool(name)
        self.pool.index_open()
        self._stepper = Stepper(steps)

    @property
    def error(self) -> Exception | None:
        """What the last `fold_error` was. Sound the alarm: it is a bug of ours (protocol F3)."""
        return self._stepper.error

    def apply(self, message: Message) -> Judged:
        """Fold the next message; the state then stands at its sequence.

        Messages must come in log order, each once: `message.sequence` above `pool.sequence`
        (readers check gaps). Raises `FoldVersionError` when the log asks for a newer fold than this
        program has.
        """
        subject = self.subjects.parse(message.subject)
        events = decode_batch(message.data)
        voids = self._judge(message, subject, events)
        self.pool.sequence = message.sequence
        if not voids:
            all_count = NO_VOIDS if len(events) <= len(NO_VOIDS) else [""] * len(events)
            return Judged(message, subject, events, all_count)
        counters = self.pool.voids
        for reason in voids.values():
            counters[reason] = counters.get(reason, 0) + 1
        judgements = [voids.get(index, "") for index in range(len(events))]
        return Judged(message, subject, events, judgements)

    def _judge(
        self, message: Message, subject: Subject | None, events: Sequence[Event | Undecodable]
    ) -> dict[int, str]:
        """Fold the events, those of one type in a row together; why which of them are void."""
        if subject is None or (message.headers and _forged(message.headers)):
            return dict.fromkeys(range(len(events)), "forged" if subject else "subject")
        voids: dict[int, str] = {}
        kinds = set(map(type, events))
        if len(kinds) == 1:
            self._fold(subject, events, 0, message.sequence, voids)
        elif kinds:
            first = 0
            for _, same in groupby(events, type):
                slice_ = list(same)
                self._fold(subject, slice_, first, message.sequence, voids)
                first += len(slice_)
        return voids

    def _fold(
        self,
        subject: Subject,
        events: Sequence[Any],
        first: int,
        sequence: int,
        voids: dict[int, str],
    ) -> None:
        kind = type(events[0])
        if kind is Undecodable:
            for index, element in enumerate(events, first):
                voids[index] = element.reason
                if subject.kind == "run":
                    undecodable(self.pool, subject, element)
        elif kind not in WRITERS[subject.kind]:
            voids.update(dict.fromkeys(range(first, first + len(events)), "wrong_subject"))  # F5
        elif not self.pool.uuid and kind is not PoolCreated:
            voids.update(dict.fromkeys(range(first, first + len(events)), "no_pool"))  # F7
        else:
            self._stepper.fold(self.pool, subject, events, first, sequence, voids)


def _forged(headers: Mapping[str, str]) -> bool:
    """The server itself wrote this message into the log at somebody's request (protocol F5)."""
    return any(name.lower() in SERVER_HEADERS for name in headers)
