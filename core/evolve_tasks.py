"""Steps of the fold for tasks and their attempts: assigned, started, finished, taken back, settled.

Rule: an attempt ends where the log says so, a task only by its settling, and nothing counts twice
(protocol A1-A6, F13). Assignments, finishes and settlements are most of every log, so each of them
folds all events of its type in a message in one sweep; the rules are the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import events as e
from .evolve_pool import close_attempt
from .model import INFRASTRUCTURE, Cause, Verdict
from .state import VERDICT_CODE, Attempt, Finish, Group, Pool, Run, Task
from .subjects import Subject

VALID = ""


# -- the leader gives ------------------------------------------------------------------------------
def _task_to_try(run: Run, name: str, number: str) -> Task | str:
    """The task, when `number` is that of its next attempt (A1), or why it cannot be tried."""
    task = run.tasks.get(name)
    if task is not None:
        if task.settled:
            return "already_settled"
        return task if number == str(task.tries + 1) else "attempt_number"
    found = run.find(name)
    if found is None:
        return "unknown_task"
    group, index = found
    if group.verdicts[index]:
        return "already_settled"
    if number != "1":
        return "attempt_number"
    task = run.tasks[name] = Task(run, group, index, name)
    return task


def sweep_assigned(
    pool: Pool,
    subject: Subject,
    events: Iterable[tuple[int, e.TaskAssigned]],
    sequence: int,
    voids: dict[int, str],
) -> None:
    """The attempts are open and reserve what they were given, from here to their end (A6)."""
    owner, term, open_attempts = subject.owner, pool.term, pool.open
    worker = pool.workers.get(owner)
    run: Run | None = None
    group: Group | None = None
    place, expected = 0, ""
    for index, event in events:
        if event.term != term:
            voids[index] = "term"  # L3
            continue
        if worker is None or event.incarnation != worker.incarnation:
            voids[index] = "incarnation"  # A4
            continue
        token = event.token
        if token in open_attempts:
            voids[index] = "duplicate"
            continue
        if run is None or run.id != event.run:
            run, group = pool.runs.get(event.run), None
        parts = token.split(".")
        if run is None or len(parts) != 4:
            voids[index] = "unknown_task"
            continue
        name, number = parts[0], parts[1]
        # Leaders give a group's tasks in order: a right guess is cheaper than taking an id apart.
        if group is not None and name == expected and number == "1" and name not in run.tasks:
            tries = 1
            task = run.tasks[name] = Task(run, group, place, name, tries)
        else:
            tried = _task_to_try(run, name, number)
            if isinstance(tried, str):
                voids[index] = tried
                continue
            task = tried
            task.tries = tries = task.tries + 1
            task.delay_ms = 0
        group, place = task.group, task.index + 1
        if place < group.size and not group.verdicts[place]:
            expected = f"{group.name}-{place}"
        else:
            group = None
        attempt = Attempt(task, token, tries, owner, event.incarnation, event.devices, sequence)
        if worker.ended:
            attempt.orphaned = worker.ended
        task.open.append(attempt)
        open_attempts[token] = worker.open[token] = attempt


def attempt_revoked(
    pool: Pool, subject: Subject, event: e.AttemptRevoked, sequence: int, index: int
) -> str:
    """The worker was asked to give the attempt back, or to kill it; nothing else moves (A5)."""
    if event.term != pool.term:
        return "term"
    attempt = pool.open.get(event.token)
    if attempt is None or attempt.worker != subject.owner or attempt.task.run.id != event.run:
        return "attempt_closed"
    if attempt.revoked in ("cancel", event.mode):
        return "duplicate"
    attempt.revoked = event.mode
    return VALID


# -- attempts, as the worker tells them ------------------------------------------------------------
def _numbered(pool: Pool, subject: Subject, token: str, n: int) -> Attempt | str:
    """The open attempt an event belongs to, or why it does not count (A1, A2, A3)."""
    attempt = pool.open.get(token)
    if attempt is None:
        return "attempt_closed"
    if attempt.worker != subject.owner or attempt.task.run.id != subject.run:
        return "not_yours"
    if n != attempt.next_n:
        return "duplicate" if n < attempt.next_n else "gap"
    return attempt


def attempt_started(
    pool: Pool, subject: Subject, event: e.AttemptStarted, sequence: int, index: int
) -> str:
    """It runs: it can be cancelled, but no more given back (A5)."""
    attempt = _numbered(pool, subject, event.token, event.n)
    if isinstance(attempt, str):
        return attempt
    attempt.next_n += 1
    attempt.started = True
    return VALID


def attempt_reported(
    pool: Pool,
    subject: Subject,
    event: e.CasesReported | e.CasesCollected | e.ArtifactStored,
    sequence: int,
    index: int,
) -> str:
    """The event is the attempt's next one; its content is for projections."""
    attempt = _numbered(pool, subject, event.token, event.n)
    if isinstance(attempt, str):
        return attempt
    attempt.next_n += 1
    return VALID


def attempt_returned(
    pool: Pool, subject: Subject, event: e.AttemptReturned, sequence: int, index: int
) -> str:
    """The attempt ended before it started; its task waits again (A5)."""
    attempt = _numbered(pool, subject, event.token, event.n)
    if isinstance(attempt, str):
        return attempt
    if attempt.started:
        return "already_started"
    worker = pool.workers.get(attempt.worker)
    if not attempt.revoked and not (worker is not None and worker.draining):
        # Refused by the agent: bounded like any other fault of the infrastructure. An agent that
        # drains gives back in order, and gets nothing more.
        attempt.task.losses += 1
    close_attempt(pool, attempt)
    return VALID


def sweep_finished(
    pool: Pool,
    subject: Subject,
    events: Iterable[tuple[int, e.AttemptFinished]],
    sequence: int,
    voids: dict[int, str],
) -> None:
    """The attempts are over; the first finish of a task awaits the leader's ruling (A3)."""
    open_attempts, name = pool.open, subject.run
    worker = pool.workers.get(subject.owner)
    mine = worker.open if worker is not None else {}
    run: Run | None = None
    for index, event in events:
        token = event.token
        attempt = mine.get(token)
        if attempt is None:
            voids[index] = "not_yours" if token in open_attempts else "attempt_closed"
            continue
        task = attempt.task
        if task.run is not run and task.run.id != name:
            voids[index] = "not_yours"
            continue
        run = task.run
        if event.n != attempt.next_n:  # A2
            voids[index] = "duplicate" if event.n < attempt.next_n else "gap"
            continue
        group = task.group
        group.finishes = finishes = group.finishes + 1
        group.mean_us += (event.duration_us - group.mean_us) // (finishes if finishes < 8 else 8)
        del open_attempts[token], mine[token]
        task.open.remove(attempt)
        if not task.settled:
            if task.finish is None:
                task.finish = Finish(token, sequence, index, event.verdict, event.cause)
        elif not task.open:
            run.tasks.pop(task.id, None)


# -- the leader rules ------------------------------------------------------------------------------
def _ruled(pool: Pool, subject: Subject, term: int) -> Run | str:
    """The run a ruling is about, or why it does not count (L3, F13)."""
    if term != pool.term:
        return "term"
    run = pool.runs.get(subject.run)
    if run is None:
        return "unknown_run"
    return "run_settled" if run.settled else run


def task_requeued(
    pool: Pool, subject: Subject, event: e.TaskRequeued, sequence: int, index: int
) -> str:
    """The task waits again. The named attempt is closed, or its finish refused, unless the leader
    keeps it open: then the first finish counts (A3). Of a settled task, the attempt is closed."""
    run = _ruled(pool, subject, event.term)
    if isinstance(run, str):
        return run
    token, attempt = event.token, pool.open.get(event.token)
    task = run.tasks.get(token.partition(".")[0])
    if task is None:
        return "unknown_task"
    if task.finish is not None and task.finish.token == token:
        if event.cause in (Cause.WORKER_LOST, Cause.NEVER_RECEIVED):
            return "attempt_closed"  # the finish landed first and wins
        task.finish = None
    elif attempt is None or attempt.task is not task:
        return "attempt_closed"
    elif not event.keep_open or task.settled:
        close_attempt(pool, attempt)
    elif attempt.kept:
        return "duplicate"
    if task.settled or (attempt is not None and attempt.kept):
        return VALID  # the attempt is closed; the task was ruled on before
    if attempt is not None:
        attempt.kept = event.keep_open
    if event.cause in INFRASTRUCTURE:
        task.losses += 1
    else:
        task.failures += 1
    task.delay_ms = event.delay_ms
    return VALID


def _count(run: Run, group: Group, verdict: Verdict, tasks: int) -> None:
    group.settled += tasks
    run.settled_tasks += tasks
    run.counts[verdict] = run.counts.get(verdict, 0) + tasks


def sweep_settled(
    pool: Pool,
    subject: Subject,
    events: Iterable[tuple[int, e.TaskSettled]],
    sequence: int,
    voids: dict[int, str],
) -> None:
    """The tasks are over, each by one verdict for good (A3). Attempts still open keep reserving."""
    term = pool.term
    run = pool.runs.get(subject.run)
    # Tasks in a row that are of one group and get one verdict are counted together.
    alike: Group | None = None
    verdict, code, number = Verdict.ERROR, 0, 0
    try:
        for index, event in events:
            if event.term != term:
                voids[index] = "term"
                continue
            if run is None or run.settled:
                voids[index] = "unknown_run" if run is None else "run_settled"
                continue
            name = event.task
            task = run.tasks.get(name)
            found = (task.group, task.index) if task is not None else run.find(name)
            if found is None:
                voids[index] = "unknown_task"
                continue
            group, place = found
            if group.verdicts[place]:
                voids[index] = "already_settled"
                continue
            if group is not alike or event.verdict is not verdict:
                if alike is not None and number:
                    _count(run, alike, verdict, number)
                alike, verdict, number = group, event.verdict, 0
                code = VERDICT_CODE[verdict]
            group.verdicts[place] = code
            number += 1
            if run.cancel_tasks:
                run.cancel_tasks.pop(name, None)
            if task is not None:
                task.settled = True
                task.finish = None
                if task.open:
                    _close_ruled(pool, task, event)
                if not task.open:
                    run.tasks.pop(name, None)
    finally:
        if run is not None and alike is not None and number:
            _count(run, alike, verdict, number)


def _close_ruled(pool: Pool, task: Task, event: e.TaskSettled) -> None:
    """Attempts that the settling was the last word on: orphans, and the one whose loss it names."""
    lost = event.token if event.at is None else None
    for attempt in list(task.open):
        if attempt.orphaned or attempt.token == lost:
            close_attempt(pool, attempt)


def range_settled(
    pool: Pool, subject: Subject, event: e.RangeSettled, sequence: int, index: int
) -> str:
    """Every task of the range that has neither an open attempt, a finish nor a verdict is over."""
    run = _ruled(pool, subject, event.term)
    if isinstance(run, str):
        return run
    group, start, stop = run.groups.get(event.group), event.start, event.stop
    if group is None or stop > group.size or start >= stop:
        return "unknown_task"
    active = [t for t in run.tasks.values() if t.group is group and start <= t.index < stop]
    wanted = group.verdicts[start:stop]
    settled = wanted.count(0)
    wanted = wanted.replace(b"\0", bytes((VERDICT_CODE[event.verdict],)))
    waiting: list[Task] = []
    for task in active:
        if task.settled:
            continue
        if task.open or task.finish is not None:
            wanted[task.index - start] = 0
            settled -= 1
        else:
            waiting.append(task)
    if not settled:
        return "already_settled"
    group.verdicts[start:stop] = wanted
    _count(run, group, event.verdict, settled)
    for task in waiting:
        task.settled = True
        del run.tasks[task.id]
    for name in list(run.cancel_tasks):
        found = run.find(name)
        if found is not None and found[0] is group and group.verdicts[found[1]]:
            del run.cancel_tasks[name]
    return VALID
