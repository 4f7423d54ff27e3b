"""What is true of every state, whatever the log holds.

Rule: a broken one is a bug of ours; it carries the story and is never caught. Cost: proportional to
the state. Simulations and tests check after every step.
"""

from __future__ import annotations

from collections import Counter

from .errors import BrokenInvariant
from .evolve import VOID_REASONS
from .ids import task_id
from .state import INCARNATIONS_REMEMBERED, VERDICTS, Attempt, Pool, Run, Task


def check(pool: Pool, story: tuple[object, ...] = ()) -> None:
    """The state agrees with itself. Raises `BrokenInvariant` with the `story`."""
    try:
        for name, run in pool.runs.items():
            _hold(run.id == name, "a run is known by its id", name)
            (_check_settled if run.settled else _check_open)(run, pool)
        for token, attempt in pool.open.items():
            _check_attempt(pool, token, attempt)
        _check_workers(pool)
        unknown = pool.voids.keys() - VOID_REASONS
        _hold(not unknown, "void reasons are a closed set", unknown)
    except BrokenInvariant as broken:
        raise BrokenInvariant(str(broken), (*story, pool.sequence)) from None


def check_reservations(pool: Pool, story: tuple[object, ...] = ()) -> None:
    """The leader promised no device and no task twice. Only a correct leader keeps this."""
    devices: set[tuple[str, str]] = set()
    for attempt in pool.open.values():
        if attempt.orphaned:
            continue
        for device in attempt.devices:
            promised = (attempt.worker, device)
            if promised in devices:
                raise BrokenInvariant(f"device {promised} is reserved twice", (*story, attempt))
            devices.add(promised)
        rivals = [a.token for a in attempt.task.open if not a.kept]
        if len(rivals) > 1:
            raise BrokenInvariant(f"task {attempt.task.id} runs twice: {rivals}", story)


def _hold(fact: bool, rule: str, *evidence: object) -> None:
    if not fact:
        raise BrokenInvariant(rule, evidence)


def _check_settled(run: Run, pool: Pool) -> None:
    content = (run.groups, run.tasks, run.parts, run.cancel_tasks, run.sealed)
    _hold(not any(content), "a settled run keeps identity, verdict and counts only", run.id)
    _hold(sum(run.counts.values()) == run.settled_tasks, "the counts add up", run.id, run.counts)
    if run.closed or (run.streams and run.settled != "rejected"):
        _hold(run.settled_tasks == run.size, "all tasks of a run settle before it", run.id)


def _check_open(run: Run, pool: Pool) -> None:
    groups = run.groups.values()
    _hold(sum(group.size for group in groups) == run.size, "groups make up the run", run.id)
    _hold(len(run.parts) == len(run.groups), "a part is a group", run.id)
    for group in groups:
        left = group.verdicts.count(0)
        _hold(len(group.verdicts) == group.size, "a verdict for each task", run.id, group.name)
        _hold(group.settled + left == group.size, "settled tasks are counted", run.id, group.name)
    codes = Counter(code for group in groups for code in group.verdicts if code)
    counts = {VERDICTS[code - 1]: number for code, number in codes.items()}
    _hold(counts == run.counts, "verdicts and counts agree", run.id, counts, run.counts)
    _hold(sum(run.counts.values()) == run.settled_tasks, "the counts add up", run.id, run.counts)
    if run.closed:
        sealed = run.sealed
        whole = sealed is not None and (sealed.parts, sealed.tasks) == (len(run.parts), run.size)
        _hold(whole and run.submitted is not None, "a closed run is complete", run.id)
        _hold(not run.invalid, "a closed run is valid", run.id, run.invalid)
    for name, task in run.tasks.items():
        _check_task(run, name, task, pool)
    for name in run.cancel_tasks:
        found = run.find(name)
        open_still = found is not None and not found[0].verdicts[found[1]]
        _hold(open_still, "only unsettled tasks wait for their cancel", run.id, name)


def _check_task(run: Run, name: str, task: Task, pool: Pool) -> None:
    group = task.group
    _hold(task.run is run and run.groups.get(group.name) is group, "a task is in its run", name)
    _hold(name == task.id == task_id(group.name, task.index), "a task has one id", name, task.id)
    _hold(task.tries > 0, "an active task was assigned", name)
    _hold(task.settled == bool(group.verdicts[task.index]), "one verdict a task", name)
    if task.settled:
        _hold(bool(task.open) and task.finish is None, "settled tasks wait for their end", name)
    numbers = [attempt.number for attempt in task.open]
    _hold(len(set(numbers)) == len(numbers), "attempts are numbered", name, numbers)
    _hold(max(numbers, default=0) <= task.tries, "attempts are counted", name, numbers)
    for attempt in task.open:
        _hold(pool.open.get(attempt.token) is attempt, "open attempts are known", attempt.token)


def _check_attempt(pool: Pool, token: str, attempt: Attempt) -> None:
    task, worker = attempt.task, pool.workers.get(attempt.worker)
    _hold(token == attempt.token, "an attempt is known by its token", token)
    _hold(task.open.count(attempt) == 1, "an open attempt is its task's", token)
    if worker is None or worker.open.get(token) is not attempt:
        raise BrokenInvariant("an open attempt is its worker's", (token, attempt.worker))
    if attempt.orphaned:
        over = task.settled or bool(task.run.settled)
        _hold(not over, "an orphan waits for a ruling that can come", token)
    else:
        current = not worker.ended and attempt.incarnation == worker.incarnation
        _hold(current, "an attempt that reserves is with a living incarnation", token)
    run = task.run
    if pool.runs.get(run.id) is run and not run.settled:
        _hold(run.tasks.get(task.id) is task, "an active task is known to its run", token)


def _check_workers(pool: Pool) -> None:
    held = sum(len(worker.open) for worker in pool.workers.values())
    _hold(held == len(pool.open), "every attempt is with one worker", held, len(pool.open))
    for name, worker in pool.workers.items():
        _hold(worker.name == name, "a worker is known by its name", name)
        _hold(worker.ended in ("", "left", "lost"), "a worker ends in two ways", worker.ended)
        past = worker.past
        fits = len(past) <= INCARNATIONS_REMEMBERED and worker.incarnation not in past
        _hold(fits, "a worker has one newest incarnation", name, past)
