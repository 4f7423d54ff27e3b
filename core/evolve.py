"""The fold's one step: `evolve(pool, subject, event, sequence, index)` folds one event.

It returns "" when the event counts, else why it is void. Rule: total and deterministic. No clock,
randomness or configuration; everything is checked before anything is changed; a void event changes
nothing. Each rule of the protocol is named where it is kept, in `evolve_pool`, `evolve_runs` and
`evolve_tasks`. All steps have one signature, so one table holds them; each takes what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import length_hint
from typing import Any

from . import events as e
from . import evolve_pool as pools
from . import evolve_runs as runs
from . import evolve_tasks as tasks
from .errors import FoldVersionError
from .state import Pool
from .subjects import Subject

Step = Callable[[Pool, Subject, Any, int, int], str]
Sweep = Callable[[Pool, Subject, Iterable[tuple[int, Any]], int, dict[int, str]], None]
"""Folds (index, event) pairs of one type of one message, and notes the void ones by their index."""


def _alone(sweep: Sweep) -> Step:
    """The sweep as a step for one event."""

    def step(pool: Pool, subject: Subject, event: e.Event, sequence: int, index: int) -> str:
        voids: dict[int, str] = {}
        sweep(pool, subject, [(index, event)], sequence, voids)
        return voids.get(index, "")

    return step


SWEEPS: dict[type[e.Event], Sweep] = {
    e.TaskAssigned: tasks.sweep_assigned,
    e.AttemptFinished: tasks.sweep_finished,
    e.TaskSettled: tasks.sweep_settled,
}
STEPS: dict[type[e.Event], Step] = {
    e.PoolCreated: pools.pool_created,
    e.PoolConfigured: pools.pool_configured,
    e.DrainRequested: pools.drain_requested,
    e.RunSubmitted: runs.run_submitted,
    e.TasksSubmitted: runs.tasks_submitted,
    e.RunSealed: runs.run_sealed,
    e.CancelRequested: runs.cancel_requested,
    e.WorkerJoined: pools.worker_joined,
    e.WorkerDraining: pools.worker_draining,
    e.WorkerLeft: pools.worker_left,
    e.AttemptStarted: tasks.attempt_started,
    e.CasesReported: tasks.attempt_reported,
    e.CasesCollected: tasks.attempt_reported,
    e.ArtifactStored: tasks.attempt_reported,
    e.AttemptReturned: tasks.attempt_returned,
    e.AttemptFinished: _alone(tasks.sweep_finished),
    e.LeaderElected: pools.leader_elected,
    e.SubmissionRejected: runs.submission_rejected,
    e.TaskAssigned: _alone(tasks.sweep_assigned),
    e.AttemptRevoked: tasks.attempt_revoked,
    e.WorkerLost: pools.worker_lost,
    e.TaskRequeued: tasks.task_requeued,
    e.TaskSettled: _alone(tasks.sweep_settled),
    e.RangeSettled: tasks.range_settled,
    e.RunSettled: runs.run_settled,
    e.RunForgotten: runs.run_forgotten,
}
VOID_REASONS = frozenset(
    {
        "already_settled", "already_started", "attempt_closed", "attempt_number", "bad_part",
        "bad_run_id", "conflict", "counts", "duplicate", "fold_error", "fold_version", "forged",
        "gap", "incarnation", "malformed", "no_pool", "not_json", "not_owner", "not_yours",
        "other_pool", "run_closed", "run_open", "run_settled", "subject", "term", "too_many",
        "unknown_run", "unknown_task", "unknown_worker", "unsettled_tasks", "verdict",
        "worker_ended", "wrong_subject",
    }
)  # fmt: skip
"""Every reason an event can be void for; a closed set, so that `Pool.voids` stays small (F3)."""


def evolve(pool: Pool, subject: Subject, event: e.Event, sequence: int, index: int) -> str:
    """Fold one event at position (sequence, index); "" when it counts, else why it is void.

    Raises only `FoldVersionError` (F4).
    """
    return STEPS[type(event)](pool, subject, event, sequence, index)


def _sweep(steps: Mapping[type, Step], kind: type) -> Sweep:
    """How the events of this type are folded: by their sweep, or step by step."""
    step = steps[kind]
    sweep = SWEEPS.get(kind)
    if sweep is not None and step is STEPS[kind]:
        return sweep

    def by_step(
        pool: Pool,
        subject: Subject,
        events: Iterable[tuple[int, Any]],
        sequence: int,
        voids: dict[int, str],
    ) -> None:
        for index, event in events:
            reason = step(pool, subject, event, sequence, index)
            if reason:
                voids[index] = reason

    return by_step


class Stepper:
    """Folds the events of one type in a message; nothing a step raises stops the rest (F3)."""

    def __init__(self, steps: Mapping[type, Step]) -> None:
        self._sweeps = {kind: _sweep(steps, kind) for kind in steps}
        self.error: Exception | None = None
        """What the last `fold_error` was: a bug of ours, for the alarm. No part of the state."""

    def fold(
        self,
        pool: Pool,
        subject: Subject,
        events: Sequence[Any],
        first: int,
        sequence: int,
        voids: dict[int, str],
    ) -> None:
        """Fold `events`, all of one type, at indexes from `first`; the void ones are in `voids`."""
        sweep = self._sweeps[type(events[0])]
        rest = iter(events)
        done = 0
        while done < len(events):
            try:
                sweep(pool, subject, enumerate(rest, first + done), sequence, voids)
                return
            except (FoldVersionError, MemoryError, RecursionError):
                raise  # no verdict on the event: another reader may well fold it
            except Exception as error:
                self.error = error
                done = max(done + 1, len(events) - length_hint(rest))
                voids[first + done - 1] = "fold_error"
