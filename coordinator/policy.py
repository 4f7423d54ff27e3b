"""What becomes of a task when an attempt ends, and of a run when its tasks are settled. Rule: pure,
bounded, explained.

Retries are bounded by cause: `retries` for what the test did, `infra_retries` for what the
infrastructure did. A cancel beats a finish that landed after it; a finish that landed first wins
(protocol A8).
"""

from __future__ import annotations

from typing import Literal

from ..core.events import RunSettled, TaskRequeued, TaskSettled
from ..core.model import INFRASTRUCTURE, UNRETRIED, Cause, Verdict
from ..core.state import Attempt, Finish, Run, Task

GOOD = frozenset({Verdict.PASSED, Verdict.SKIPPED})
BACKOFF_MS = 1_000
BACKOFF_MS_MAX = 60_000

RunVerdict = Literal["passed", "failed", "incomplete", "empty", "cancelled"]


def cancelled_at(task: Task) -> int:
    """Log sequence of the request that cancelled the task or its run; 0 when nobody did."""
    run = task.run
    single = run.cancel_tasks.get(task.id, 0) if run.cancel_tasks else 0
    whole = run.cancel_at
    return min(single, whole) if single and whole else single or whole


def may_retry(task: Task, cause: Cause) -> bool:
    """Whether the budget of this cause allows another attempt."""
    if cause in UNRETRIED:
        return False
    spec = task.group.spec
    if cause in INFRASTRUCTURE:
        return task.losses < spec.infra_retries
    return task.failures < spec.retries


def backoff_ms(task: Task, cause: Cause) -> int:
    """Wait before the next attempt: none after the first fault, then doubling to a minute."""
    faults = task.losses if cause in INFRASTRUCTURE else 0
    return min(BACKOFF_MS << (faults - 1), BACKOFF_MS_MAX) if faults else 0


def after_finish(task: Task, finish: Finish, term: int) -> TaskSettled | TaskRequeued:
    """The ruling on a finished attempt."""
    at = (finish.sequence, finish.index)
    asked = cancelled_at(task)
    if asked and finish.sequence > asked:
        return TaskSettled(
            term=term,
            task=task.id,
            verdict=Verdict.CANCELLED,
            cause=Cause.CANCELLED,
            token=finish.token,
            at=at,
        )
    if (
        finish.verdict not in GOOD
        and finish.verdict is not Verdict.FALLBACK
        and may_retry(task, finish.cause)
    ):
        return TaskRequeued(
            term=term,
            token=finish.token,
            cause=finish.cause,
            delay_ms=backoff_ms(task, finish.cause),
        )
    return TaskSettled(
        term=term,
        task=task.id,
        verdict=finish.verdict,
        cause=finish.cause,
        token=finish.token,
        at=at,
    )


def after_loss(task: Task, attempt: Attempt, cause: Cause, term: int) -> TaskSettled | TaskRequeued:
    """The ruling on an attempt that ended without a word: worker gone, or never received.

    Of a task that is settled already, it only closes the attempt.
    """
    if task.settled:
        return TaskRequeued(term=term, token=attempt.token, cause=cause)
    if cancelled_at(task):
        return TaskSettled(
            term=term,
            task=task.id,
            verdict=Verdict.CANCELLED,
            cause=Cause.CANCELLED,
            token=attempt.token,
        )
    if may_retry(task, cause):
        return TaskRequeued(
            term=term, token=attempt.token, cause=cause, delay_ms=backoff_ms(task, cause)
        )
    return TaskSettled(
        term=term, task=task.id, verdict=Verdict.ERROR, cause=cause, token=attempt.token
    )


def after_return(task: Task, term: int) -> TaskSettled | None:
    """The ruling on an attempt that was given back; None: the task simply waits again."""
    if cancelled_at(task):
        return TaskSettled(
            term=term, task=task.id, verdict=Verdict.CANCELLED, cause=Cause.CANCELLED
        )
    if task.losses > task.group.spec.infra_retries:
        return TaskSettled(term=term, task=task.id, verdict=Verdict.ERROR, cause=Cause.RETURNED)
    return None


def run_verdict(run: Run) -> RunVerdict:
    """What the run as a whole ended as, from the counts of its tasks' verdicts."""
    if run.cancel_at:
        return "cancelled"
    if not run.closed:
        return "incomplete"
    if not run.size:
        return "empty"
    good = sum(run.counts.get(verdict, 0) for verdict in GOOD)
    return "passed" if good == run.size else "failed"


def settle_run(run: Run, term: int) -> RunSettled:
    """The last event of a run (protocol F13)."""
    return RunSettled(term=term, verdict=run_verdict(run), counts=dict(run.counts))
